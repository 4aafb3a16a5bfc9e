"""Sounds, shown as spectrograms."""

from collections.abc import Iterator
from typing import Self

import numpy as np
import torch
from jaxtyping import Integer, UInt8

from pipeline.data.dataset import ImageDataset
from pipeline.explanation.settings import Explain
from pipeline.explanation.shown.base import Attribution, Network, PictureShower, Sample
from pipeline.explanation.shown.occlusion import Covered, occlude, spans
from pipeline.explanation.shown.spectrogram import COLUMNS, ROWS, Spectrogram

_NUMBERS_AT_ONCE = 1 << 23  # of sounds with a piece covered: 16 MB


class SoundShower(PictureShower):
    """A way to show sounds, and maps of what counts in them: a patch of time and frequency is taken
    out of the sound.
    """

    kind = "waveform"

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz

    @classmethod
    def of(cls, dataset: ImageDataset) -> Self:
        return cls(int((dataset.manifest.input or {})["rate_hz"]))

    @property
    def picture_px(self) -> tuple[int, int]:
        return ROWS, COLUMNS

    def picture(self, sample: Sample) -> UInt8[np.ndarray, "channels height width"]:
        return Spectrogram.of(sample.numpy(), self._rate_hz).picture()

    def method(self, settings: Explain) -> str:
        (bands, columns), steps = settings.window(ROWS, COLUMNS), settings.strides(ROWS, COLUMNS)
        of_all = f"{bands} of {ROWS} mel bands and {columns} of {COLUMNS} stretches of time"
        return f"occlusion of {of_all} in steps of {steps[0]} and {steps[1]}, taken out of the sound"

    def attribute(
        self, network: Network, inputs: Integer[torch.Tensor, "samples ..."], settings: Explain
    ) -> Attribution:
        found = np.zeros((len(inputs), ROWS, COLUMNS))
        for number, sound in enumerate(inputs):
            covered = self._covered(sound.numpy(), settings)
            found[number] = occlude(network, number, sound, covered, settings.batch_size)
        return found

    def _covered(self, sound: np.ndarray, settings: Explain) -> Iterator[Covered]:
        """Yields the sound without each patch, some at a time."""
        spectrogram = Spectrogram.of(sound, self._rate_hz)
        (height, width), (down, across) = settings.window(ROWS, COLUMNS), settings.strides(ROWS, COLUMNS)
        patches = [(rows, columns) for rows in spans(ROWS, height, down) for columns in spans(COLUMNS, width, across)]
        at_once = max(1, _NUMBERS_AT_ONCE // len(sound))
        for start in range(0, len(patches), at_once):
            some = patches[start : start + at_once]
            places = np.zeros((len(some), ROWS, COLUMNS), dtype=bool)
            for each, (rows, columns) in zip(places, some, strict=True):
                each[rows, columns] = True
            sounds = np.stack([spectrogram.without(sound, rows, columns) for rows, columns in some])
            yield torch.from_numpy(sounds), places
