"""Adds noise to a sound."""

from functools import cache
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Int64
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.seeding import integers_below, philox
from pipeline.data.input_kinds import InputKindName
from pipeline.views.operations.base import UNIT, Probability, SampleOperation, ascending, happens, to_samples

_POOL = 1 << 16  # numbers, of which a noise is a stretch
_SEED = 0x6E6F697365
_Decibels = Annotated[float, Field(ge=-20, le=100)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Noise(SampleOperation):
    """A sound with white noise, by chance, at a ratio of the sound's power to the noise's.

    The noise is a stretch of a fixed pool of normal whole numbers, which begins at a random place.
    The sound's power is its mean over the whole sample, zeros included; silence stays silent. Sums
    of squares are of whole numbers, and a root and a quotient of 64 bits have the same bits
    everywhere.

    Args:
        decibels: The least and the greatest ratio; uniform between.
    """

    kind: Literal["noise"] = "noise"
    probability: Probability
    decibels: Annotated[tuple[_Decibels, _Decibels], AfterValidator(ascending)]

    input_kind: ClassVar[InputKindName] = "waveform"
    num_words = 3

    @property
    def still(self) -> tuple[int, ...]:
        return (0, 0)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns the noise's amplitude in 1/65536 of the sound's, and its begin in the pool."""
        low, high = self.decibels
        decibels = low + (high - low) * (words[1].numpy() / 2**32)
        amplitudes = torch.from_numpy(np.rint(UNIT * 10 ** (-decibels / 20)).astype(np.int64))
        amplitudes *= happens(words[0], self.probability)
        return torch.stack([amplitudes, integers_below(words[2], _POOL)], dim=1)

    def apply(self, inputs: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        length = inputs.shape[1]
        root_mean_square = (inputs.long().square().sum(dim=1).double() / length).sqrt()
        factors = (root_mean_square * draws[:, 0] / _root_mean_square() + 0.5).floor().long()
        if inputs.device.type == "cpu":  # a tenth of the time
            pool = _repeated(length)
            noises = torch.stack([pool[begin : begin + length] for begin in draws[:, 1].tolist()])
        else:
            times = torch.arange(length, device=inputs.device)
            noises = noise_pool().to(inputs.device)[(draws[:, 1, None] + times) % _POOL]
        return to_samples(noises.mul_(factors[:, None]).add_(inputs.long() << 16))


@cache
def noise_pool() -> Int64[torch.Tensor, " pool"]:
    """Returns about normal whole numbers, each the sum of twelve random ones of 12 bits."""
    counters = np.arange(_POOL, dtype=np.int64)
    words = [word for slot in range(3) for word in philox(_SEED, (counters, *(np.full_like(counters, slot),) * 3))]
    return torch.from_numpy(sum((word >> 20) * 2 - 4095 for word in words))


@cache
def _root_mean_square() -> float:
    return float((noise_pool().square().sum().double() / _POOL).sqrt())


@cache
def _repeated(length: int) -> torch.Tensor:
    """Returns the pool over and over, long enough for a stretch that begins at its end."""
    return noise_pool().repeat(2 + length // _POOL)
