"""Puts a rectangle of one image over another."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.views.operations.base import UNIT
from pipeline.views.operations.mixing import ImageMixing
from pipeline.views.operations.rectangles import inside, place


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CutMix(ImageMixing):
    """A rectangle of the partner over the image, at the same place in both.

    It has the image's aspect, lies wholly inside, and is of whole pixels. Its area is the partner's
    share, or less by rounding. The own share is that of the pixels, not the one drawn.

    References:
        Sangdoo Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with
        Localizable Features", 2019, arXiv 1905.04899, section 3.1.
    """

    kind: Literal["cutmix"] = "cutmix"

    num_words = 4

    @property
    def still(self) -> tuple[int, ...]:
        return (0, 0, 0)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns the rectangle's share of either side, and the words that place it.

        Shares are in units of 1/65536, rounded down.
        """
        # Float64 takes the root of a whole number below 2^52 exactly, as far as rounding down goes.
        sides = (self._draw_shares(words) * UNIT).double().sqrt().long()
        return torch.stack([sides, words[2], words[3]], dim=1)

    def mix(self, images: torch.Tensor, partners: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        size = (images.shape[2], images.shape[3])
        height, width = _sides(draws, size)
        top, left = place(draws[:, 1], height, size[0]), place(draws[:, 2], width, size[1])
        return torch.where(inside(top, left, height, width, size), partners, images)

    def mix_maps(self, maps: torch.Tensor, partners: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return self.mix(maps[:, None], partners[:, None], draws)[:, 0]

    def own_shares(self, draws: torch.Tensor, input_shape: Sequence[int]) -> torch.Tensor:
        height, width = _sides(draws, (input_shape[1], input_shape[2]))
        area = input_shape[1] * input_shape[2]
        return ((area - height * width).double() / area).float()


def _sides(draws: torch.Tensor, image_size: tuple[int, int]) -> list[torch.Tensor]:
    """Returns height and width of a CutMix rectangle, in pixels."""
    return [(draws[:, 0] * size) >> 16 for size in image_size]
