"""Cuts a random rectangle out and stretches it to the size of the image."""

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
    """A random rectangle of the image, resized to the image's size.

    It is at a random place inside, and is cut to the image where it is larger. Pixels are
    interpolated linearly between their centres, along rows and then along columns. A rectangle is
    never larger than the image, so nothing is made smaller and antialiasing would change nothing.

    Args:
        scale: The rectangle's share of the image's area.
        ratio: Its width / height.

    References:
        Christian Szegedy et al., "Going Deeper with Convolutions", 2014, arXiv 1409.4842, section
        6.
    """

    kind: Literal["resized_crop"] = "resized_crop"
    scale: ShareSpan
    ratio: Span

    num_words = 4

    @property
    def still(self) -> tuple[int, ...]:
        return (FULL_SIDE, FULL_SIDE, 0, 0)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns height and width as `draw_sides` does, and the words that place the rectangle.

        The first word is for rows, the second for columns.
        """
        return torch.cat([draw_sides(words[:2], self.scale, self.ratio), words[2:4]]).T

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        rows, columns = _rectangles(draws, (images.shape[2], images.shape[3]))
        return _stretch(_stretch(images, 3, *columns), 2, *rows)

    def apply_to_maps(self, maps: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Returns for each new pixel the class of the old one that its centre lies in.

        Of a centre between two it is the lower or the right one.
        """
        rows, columns = _rectangles(draws, (maps.shape[1], maps.shape[2]))
        lines = _centres(maps.shape[1], *rows) // _unit(maps.shape[1])
        places = _centres(maps.shape[2], *columns) // _unit(maps.shape[2])
        samples = torch.arange(len(maps), device=maps.device)[:, None, None]
        return maps[samples, lines[:, :, None], places[:, None, :]]


def _rectangles(
    draws: Int64[torch.Tensor, "batch 4"], size: tuple[int, int]
) -> list[tuple[Int64[torch.Tensor, " batch"], Int64[torch.Tensor, " batch"]]]:
    """Returns where rectangles begin and how long they are along rows, then along columns."""
    lengths = [side_length(draws[:, axis], size[axis], size[0] * size[1], _STEPS) for axis in (0, 1)]
    starts = [place(draws[:, 2 + axis], lengths[axis], _STEPS * size[axis]) for axis in (0, 1)]
    return list(zip(starts, lengths, strict=True))


def _unit(size: int) -> int:
    """Returns the parts of a pixel in which the centres of all new pixels are whole numbers."""
    return 2 * _STEPS * size


def _centres(
    size: int, start: Int64[torch.Tensor, " batch"], length: Int64[torch.Tensor, " batch"]
) -> Int64[torch.Tensor, "batch size"]:
    """Returns the centre of every new pixel in the old image, in parts of a pixel from its edge."""
    centres = 2 * torch.arange(size, device=start.device) + 1
    return 2 * size * start[:, None] + centres * length[:, None]


def _stretch(
    images: UInt8[torch.Tensor, "batch channels height width"],
    axis: int,
    start: Int64[torch.Tensor, " batch"],
    length: Int64[torch.Tensor, " batch"],
) -> UInt8[torch.Tensor, "batch channels height width"]:
    """Returns images of which a part of one axis, from `start` on, is stretched to the whole of it.

    Each pixel is a weighted mean of two neighbours, or the outermost one alone, to the nearest
    level, halves up. All of it is whole numbers, so that every device comes to the same bits.
    """
    size = images.shape[axis]
    # 1. The centre of every new pixel, in the old image, counted from the centre of the first old
    #    pixel.
    unit = _unit(size)
    position = _centres(size, start, length) - unit // 2
    # 2. The old pixels on either side, and the weight of the second in 1/16384.
    weight = ((position % unit) * _WEIGHT + unit // 2) // unit
    first = position // unit  # rounds down, below 0 too
    # 3. Both are gathered along the axis; past the border, the outermost pixel stands for both.
    samples = torch.arange(len(images), device=images.device)[:, None]
    lines = images.movedim(axis, 1)
    one, other = (lines[samples, index.clamp(0, size - 1)].to(torch.int32) for index in (first, first + 1))
    # 4. one + weight x (other - one), in place: a batch of large images is most of what memory
    # takes. A level and its weight make 22 bits, so 32 hold the sum.
    other -= one
    other *= weight.to(torch.int32)[:, :, None, None]
    mean = other.add_(one << 14).add_(_WEIGHT // 2).bitwise_right_shift_(14)
    return mean.to(torch.uint8).movedim(1, axis)
