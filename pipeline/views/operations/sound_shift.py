"""Shifts a sound in time."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.seeding import integers_below
from pipeline.data.input_kinds import InputKindName
from pipeline.views.operations.base import SampleOperation, need_room

MOST_SAMPLES = 1 << 20


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Shift(SampleOperation):
    """A shift by up to `most_samples` samples, to either side; zeros come in."""

    kind: Literal["shift"] = "shift"
    most_samples: Annotated[int, Field(ge=0, le=MOST_SAMPLES)]

    input_kind: ClassVar[InputKindName] = "waveform"
    num_words = 1

    @property
    def still(self) -> tuple[int, ...]:
        return (self.most_samples,)

    def check(self, input_shape: Sequence[int], where: str) -> None:
        need_room(self.most_samples, input_shape, where)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns the first sample of the window in the padded sound."""
        return integers_below(words[:1], 2 * self.most_samples + 1).T

    def apply(self, inputs: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        length, rows = inputs.shape[1], np.arange(len(inputs))
        padded = F.pad(inputs, (self.most_samples, self.most_samples))
        if inputs.device.type == "cpu":  # NumPy copies windows several times as fast
            windows = sliding_window_view(padded.numpy(), length, axis=1)
            return torch.from_numpy(windows[rows, draws[:, 0].numpy()])
        return padded.unfold(1, length, 1)[torch.arange(len(inputs), device=inputs.device), draws[:, 0]]
