"""Mixes two images as a weighted mean."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.data.hard_labels import UNLABELLED
from pipeline.views.operations.base import UNIT, blend
from pipeline.views.operations.mixing import ImageMixing


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mixup(ImageMixing):
    """The weighted mean of two images.

    References:
        Hongyi Zhang, Moustapha Cisse, Yann N. Dauphin, David Lopez-Paz, "mixup: Beyond Empirical
        Risk Minimization", 2017, arXiv 1710.09412, section 2.
    """

    kind: Literal["mixup"] = "mixup"

    num_words = 2

    @property
    def still(self) -> tuple[int, ...]:
        return (UNIT,)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns the own share in units of 1/65536."""
        return (UNIT - self._draw_shares(words))[:, None]

    def mix(self, images: torch.Tensor, partners: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return blend(images, partners, draws[:, 0])

    def mix_maps(self, maps: torch.Tensor, partners: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return maps.masked_fill((draws[:, 0] < UNIT)[:, None, None], UNLABELLED)

    def own_shares(self, draws: torch.Tensor, input_shape: Sequence[int]) -> torch.Tensor:
        return draws[:, 0].float() / UNIT
