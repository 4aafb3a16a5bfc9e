"""A network that takes sounds: its front end, log-mel spectra."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int16
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from pipeline.core.config import STRICT, validate
from pipeline.core.errors import ModelError
from pipeline.models.classifier import PLAIN, Classifier, Outputs

_FLOOR = 1e-6  # below the noise of 16 bits
_LEAST = 4  # samples in a frame


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Spectra:
    """The settings of the front end.

    Attributes:
        mels: Bands, of equal width on the mel scale, up to half the rate.
        window_ms: The length of a frame; `hop_ms`: from one to the next.
    """

    mels: Annotated[int, Field(ge=4, le=256)] = 40
    window_ms: Annotated[float, Field(ge=1, le=1000)] = 32.0
    hop_ms: Annotated[float, Field(ge=1, le=1000)] = 16.0

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: str) -> "Spectra":
        """Raises ConfigError where a setting does not fit."""
        spectra: Spectra = validate(cls, dict(settings), where)
        return spectra


class SoundClassifier(Classifier):
    """A network that takes 16-bit sounds: images of one channel, [bands, frames], to its network.

    The spectrum is a matrix product of each frame with sines and cosines, which every exporter and
    every device knows; for short frames a Fourier transform takes as long. It is computed in 32
    bits whatever the network is computed in: bfloat16 has 3 digits, and power is a sum of many.
    """

    input_name = "samples"
    waves: torch.Tensor
    bands: torch.Tensor

    def __init__(self, network: nn.Module, rate_hz: int, spectra: Spectra, outputs: Outputs = PLAIN) -> None:
        super().__init__(network, outputs)
        self._size = round(rate_hz * spectra.window_ms / 1000)
        self._hop = round(rate_hz * spectra.hop_ms / 1000)
        if self._size < _LEAST or self._hop < 1:
            found = f"window_ms {spectra.window_ms:g} and hop_ms {spectra.hop_ms:g}, at {rate_hz} Hz"
            raise ModelError("input", found, expected=f"a window of {_LEAST} samples and a hop of 1, at least")
        self.register_buffer("waves", _waves(self._size))
        self.register_buffer("bands", _mel_bands(spectra.mels, self._size, rate_hz))

    def to_network(self, inputs: Int16[torch.Tensor, "batch length"]) -> Float[torch.Tensor, "batch 1 bands frames"]:
        if torch.is_autocast_enabled(inputs.device.type):
            with torch.autocast(inputs.device.type, enabled=False):
                return self._spectra(inputs)
        return self._spectra(inputs)

    def _spectra(self, inputs: Int16[torch.Tensor, "batch length"]) -> Float[torch.Tensor, "batch 1 bands frames"]:
        sounds = inputs.float() / 32768
        lacking = self._size - sounds.shape[1]
        if lacking > 0:
            sounds = torch.nn.functional.pad(sounds, (0, lacking))
        frames = sounds.unfold(1, self._size, self._hop)  # [batch, frames, size]
        real, imaginary = (frames @ self.waves).chunk(2, dim=2)
        power = (real * real + imaginary * imaginary) @ self.bands
        return ((power + _FLOOR).log().transpose(1, 2)[:, None] + 4) / 4


def _waves(size: int) -> Float[torch.Tensor, "size waves"]:
    """Returns a Hann window times the cosines and sines of a discrete Fourier transform."""
    time = torch.arange(size, dtype=torch.float64)
    window = 0.5 - 0.5 * (2 * math.pi * time / size).cos()
    angles = 2 * math.pi * time[:, None] * torch.arange(size // 2 + 1) / size
    return (window[:, None] * torch.cat([angles.cos(), angles.sin()], dim=1) / math.sqrt(size)).float()


def _mel_bands(count: int, size: int, rate_hz: int) -> Float[torch.Tensor, "frequencies bands"]:
    """Returns triangles of equal width on the mel scale, 2595 log10(1 + f / 700).

    None is narrower than the step between two frequencies, so that each has one.

    References:
        Douglas O'Shaughnessy, "Speech Communication: Human and Machine", 1987, page 150.
    """
    top = 2595 * math.log10(1 + rate_hz / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, count + 2, dtype=torch.float64) / 2595) - 1)
    step = rate_hz / size
    distances = torch.arange(size // 2 + 1, dtype=torch.float64)[:, None] * step - edges[1:-1]
    rising = 1 + distances / (edges[1:-1] - edges[:-2]).clamp(min=step)
    falling = 1 - distances / (edges[2:] - edges[1:-1]).clamp(min=step)
    return torch.minimum(rising, falling).clamp(min=0).float()
