"""Cut a random rectangle out and stretch it to the size of the image."""

from typing import Literal

import torch
from jaxtyping import Int64, UInt8
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.views.operations.base import ImageOperation, ShareSpan, Span
from pipeline.views.operations.rectangles import FULL_SIDE, draw_sides, place, side_length

_STEPS = 256  # to a pixel: rectangles begin and end at these
_WEIGHT = 1 << 14


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ResizedCrop(ImageOperation):
    """A rectangle whose area is a share of the image's in `scale` and whose width / height is in `ratio`, cut to the
    image where it is larger, at a random place inside, resized to the image's size.

    Linear interpolation between pixel centres, along rows and then along columns. A rectangle is never larger than the
    image, so that nothing is made smaller and antialiasing would change nothing.

    References:
        Christian Szegedy et al., "Going Deeper with Convolutions", 2014, arXiv 1409.4842, section 6.
    """

    kind: Literal["resized_crop"] = "resized_crop"
    scale: ShareSpan
    ratio: Span

    num_words = 4

    @property
    def still(self) -> tuple[int, ...]:
        return (FULL_SIDE, FULL_SIDE, 0, 0)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Height and width as `draw_sides` gives them, and the words that place the rectangle (rows, columns)."""
        return torch.cat([draw_sides(words[:2], self.scale, self.ratio), words[2:4]]).T

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        area = images.shape[2] * images.shape[3]
        for axis, side, word in ((3, draws[:, 1], draws[:, 3]), (2, draws[:, 0], draws[:, 2])):
            length = side_length(side, images.shape[axis], area, _STEPS)
            images = _stretch(images, axis, place(word, length, _STEPS * images.shape[axis]), length)
        return images


def _stretch(
    images: UInt8[torch.Tensor, "batch channels height width"],
    axis: int,
    start: Int64[torch.Tensor, " batch"],
    length: Int64[torch.Tensor, " batch"],
) -> UInt8[torch.Tensor, "batch channels height width"]:
    """The part of one axis from `start` on, stretched to the whole of it, to the nearest level, halves up.

    Each pixel is a weighted mean of two neighbours, or of the outermost one alone.
    """
    size = images.shape[axis]
    unit = 2 * _STEPS * size  # to a pixel, so that the centre of every new pixel is a whole number
    centres = 2 * torch.arange(size, device=images.device) + 1
    position = 2 * size * start[:, None] + centres * length[:, None] - unit // 2
    weight = ((position % unit) * _WEIGHT + unit // 2) // unit
    first = position // unit  # rounds down, below 0 too
    samples = torch.arange(len(images), device=images.device)[:, None]
    lines = images.movedim(axis, 1)
    one, other = (lines[samples, index.clamp(0, size - 1)].to(torch.int32) for index in (first, first + 1))
    other -= one
    other *= weight.to(torch.int32)[:, :, None, None]
    mean = other.add_(one << 14).add_(_WEIGHT // 2).bitwise_right_shift_(14)
    return mean.to(torch.uint8).movedim(1, axis)
