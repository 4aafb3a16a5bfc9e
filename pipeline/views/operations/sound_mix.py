"""Mixes two sounds."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.data.input_kinds import InputKindName
from pipeline.views.operations.base import UNIT, to_samples
from pipeline.views.operations.mixing import SharedMixing


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SoundMix(SharedMixing):
    """The weighted mean of two sounds.

    References:
        Hongyi Zhang, Moustapha Cisse, Yann N. Dauphin, David Lopez-Paz, "mixup: Beyond Empirical
        Risk Minimization", 2017, arXiv 1710.09412, section 2.
    """

    kind: Literal["sound_mix"] = "sound_mix"

    input_kind: ClassVar[InputKindName] = "waveform"
    num_words = 2

    @property
    def still(self) -> tuple[int, ...]:
        return (UNIT,)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns the own share in units of 1/65536."""
        return (UNIT - self._draw_shares(words))[:, None]

    def mix(self, inputs: torch.Tensor, partners: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return to_samples(inputs.long().mul_(draws).add_(partners.long().mul_(UNIT - draws)))

    def own_shares(self, draws: torch.Tensor, input_shape: Sequence[int]) -> torch.Tensor:
        return draws[:, 0].float() / UNIT
