"""Takes a band of frequencies out of a sound."""

import math
from functools import cache
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Int64
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.seeding import integers_below
from pipeline.data.input_kinds import InputKindName
from pipeline.views.operations.base import UNIT, SampleOperation, to_samples
from pipeline.views.operations.rectangles import place

_REACH = 32  # samples to either side that a filtered one is made of
_STEPS = 256  # of frequencies, up to half the rate


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FrequencyMask(SampleOperation):
    """A sound without the frequencies of a band, whose width is 0 to `most_share` of all.

    The filter is on the sound itself, so that every network is shown the same view, whatever its
    front end. Its 65 factors are whole numbers of 1/65536, a sinc in a Hann window, and their
    sums with samples are whole numbers. Its edges are some 1/32 of the rate wide.

    References:
        Daniel S. Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech
        Recognition", 2019, arXiv 1904.08779, section 2 (on spectra; here on the sound itself).
    """

    kind: Literal["frequency_mask"] = "frequency_mask"
    most_share: Annotated[float, Field(ge=0, le=1)]

    input_kind: ClassVar[InputKindName] = "waveform"
    num_words = 2

    @property
    def still(self) -> tuple[int, ...]:
        return (0, 0)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns the band's width in 1/256 of all frequencies, and the word that places it."""
        return torch.stack([integers_below(words[0], round(self.most_share * _STEPS) + 1), words[1]], dim=1)

    def apply(self, inputs: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        width = draws[:, 0]
        low = place(draws[:, 1], width, _STEPS)
        passes = low_passes().to(inputs.device)
        factors = passes[low] - passes[low + width]
        factors[:, _REACH] += UNIT
        # Sums by Fourier transform are off by less than 0.01, so rounding gives the whole numbers
        # that they are, whichever library adds them up.
        size = _smooth(inputs.shape[1] + 2 * _REACH)
        spectra = torch.fft.rfft(inputs.double(), n=size).mul_(torch.fft.rfft(factors.double(), n=size))
        sums = torch.fft.irfft(spectra, n=size)[:, _REACH : _REACH + inputs.shape[1]]
        return to_samples(sums.round().long())


def _smooth(least: int) -> int:
    """Returns the next power of two, or three quarters or five eighths of one: quick sizes."""
    power = 1 << (least - 1).bit_length()
    return next(size for size in (power * 5 // 8, power * 3 // 4, power) if size >= least)


@cache
def low_passes() -> Int64[torch.Tensor, "frequencies factors"]:
    """Returns the factors, in 1/65536, of filters that end at each of the frequencies 0 to 256."""
    window = [0.5 + 0.5 * math.cos(math.pi * at / (_REACH + 1)) for at in range(-_REACH, _REACH + 1)]

    def factor(step: int, at: int) -> int:
        edge = step / _STEPS
        sinc = edge if at == 0 else math.sin(math.pi * edge * at) / (math.pi * at)
        return round(UNIT * sinc * window[at + _REACH])

    every = range(-_REACH, _REACH + 1)
    return torch.tensor([[factor(step, at) for at in every] for step in range(_STEPS + 1)])
