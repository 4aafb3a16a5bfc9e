"""Makes a sound louder or softer."""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.data.input_kinds import InputKindName
from pipeline.views.operations.base import UNIT, SampleOperation, ascending, to_samples

_Decibels = Annotated[float, Field(ge=-60, le=24)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Gain(SampleOperation):
    """A sound times a factor, rounded to whole numbers, halves up, and cut to 16 bits.

    Args:
        decibels: The least and the greatest gain; uniform between.
    """

    kind: Literal["gain"] = "gain"
    decibels: Annotated[tuple[_Decibels, _Decibels], AfterValidator(ascending)]

    input_kind: ClassVar[InputKindName] = "waveform"
    num_words = 1

    @property
    def still(self) -> tuple[int, ...]:
        return (UNIT,)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns the factor in units of 1/65536."""
        low, high = self.decibels
        decibels = low + (high - low) * (words[0].numpy() / 2**32)
        return torch.from_numpy(np.rint(UNIT * 10 ** (decibels / 20)).astype(np.int64))[:, None]

    def apply(self, inputs: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return to_samples(inputs.long().mul_(draws))
