"""Covers a random rectangle."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.views.operations.base import ImageOperation, Probability, ShareSpan, Span, happens
from pipeline.views.operations.rectangles import draw_sides, inside, place, side_length


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Erasing(ImageOperation):
    """An image with, by chance, a rectangle of whole pixels of one level in every channel.

    Args:
        probability: Of there being a rectangle.
        scale: The rectangle's share of the image's area.
        ratio: Its width / height.

    References:
        Zhun Zhong et al., "Random Erasing Data Augmentation", 2017, arXiv 1708.04896, section 3.2.
    """

    kind: Literal["erasing"] = "erasing"
    probability: Probability
    scale: ShareSpan
    ratio: Span
    fill_level: Annotated[int, Field(ge=0, le=255)]

    num_words = 5

    @property
    def still(self) -> tuple[int, ...]:
        return (0, 0, 0, 0, 0)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns 1 where a rectangle is covered, its sides, and the words that place it.

        Height and width are as `draw_sides` returns them.
        """
        covered = happens(words[0], self.probability).long()[None]
        return torch.cat([covered, draw_sides(words[1:3], self.scale, self.ratio), words[3:5]]).T

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        size = (images.shape[2], images.shape[3])
        covered, *sides = draws[:, :3].unbind(1)
        lengths = [side_length(side, n, size[0] * size[1], steps=1) for side, n in zip(sides, size, strict=True)]
        top, left = (place(draws[:, 3 + axis], lengths[axis], size[axis]) for axis in (0, 1))
        hidden = inside(top, left, lengths[0], lengths[1], size) & covered.bool()[:, None, None, None]
        return images.masked_fill(hidden, self.fill_level)

    def apply_to_maps(self, maps: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return maps  # what is covered is still there, and the rest of the image says what it is
