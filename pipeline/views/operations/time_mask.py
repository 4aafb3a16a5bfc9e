"""Silences a stretch of a sound."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.seeding import integers_below
from pipeline.data.input_kinds import InputKindName
from pipeline.views.operations.base import SampleOperation, need_room
from pipeline.views.operations.rectangles import place
from pipeline.views.operations.sound_shift import MOST_SAMPLES


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TimeMask(SampleOperation):
    """A sound with zeros in a stretch of 0 to `most_samples` samples, wholly inside.

    References:
        Daniel S. Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech
        Recognition", 2019, arXiv 1904.08779, section 2 (on spectra; here on the sound itself).
    """

    kind: Literal["time_mask"] = "time_mask"
    most_samples: Annotated[int, Field(ge=0, le=MOST_SAMPLES)]

    input_kind: ClassVar[InputKindName] = "waveform"
    num_words = 2

    @property
    def still(self) -> tuple[int, ...]:
        return (0, 0)

    def check(self, input_shape: Sequence[int], where: str) -> None:
        need_room(self.most_samples, input_shape, where)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns the length of the stretch, and the word that places it."""
        return torch.stack([integers_below(words[0], self.most_samples + 1), words[1]], dim=1)

    def apply(self, inputs: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        first = place(draws[:, 1], draws[:, 0], inputs.shape[1])
        times = torch.arange(inputs.shape[1], device=inputs.device)
        return inputs.masked_fill((times >= first[:, None]) & (times < (first + draws[:, 0])[:, None]), 0)
