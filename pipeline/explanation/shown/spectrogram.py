"""The spectrum of a sound over time, as a picture, and the sound without a piece of it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex128, Float, Int16, Int64, UInt8

ROWS, COLUMNS = 64, 96  # of the picture: bands of frequency, highest first, and stretches of time
_FRAME_SECONDS = 0.032
_HOPS = 4  # in a frame
_OVERLAP = 1.5  # the sum of squares of a Hann window that is moved by a quarter of its length
_RANGE_DB = 60.0  # below the loudest place of a sound, which is white
_LEAST_POWER = 1.0  # of a place that is drawn as silent


@dataclass(frozen=True)
class Spectrogram:
    """The short-time Fourier transform of a sound, in the cells of a picture.

    Attributes:
        transform: [frames, bins]; frames begin before the sound and end behind it.
        bin_edges: Where the bands of the picture begin and end, lowest first: equally wide on the
            mel scale, in bins; `frame_edges` those of its columns, in frames.
        length: Of the sound, in samples.
    """

    transform: Complex128[np.ndarray, "frames bins"]
    bin_edges: Int64[np.ndarray, " bands"]
    frame_edges: Int64[np.ndarray, " stretches"]
    length: int

    @classmethod
    def of(cls, sound: Int16[np.ndarray, " length"], rate_hz: int) -> "Spectrogram":
        """Returns the spectrogram of a sound."""
        size = max(16, 1 << round(np.log2(rate_hz * _FRAME_SECONDS)))
        hop = size // _HOPS
        padded = np.pad(sound.astype(np.float64), (size, size + (-len(sound)) % hop))
        frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
        transform = np.fft.rfft(frames * _hann(size), axis=1)
        top = 2595 * np.log10(1 + rate_hz / 2 / 700)
        frequencies = 700 * (10 ** (np.linspace(0, top, ROWS + 1) / 2595) - 1)
        bins = np.rint(frequencies / (rate_hz / 2) * transform.shape[1]).astype(np.int64)
        # Frame `_HOPS // 2` has its middle where the sound begins.
        columns = np.rint(np.linspace(_HOPS // 2, len(frames) - _HOPS // 2, COLUMNS + 1)).astype(np.int64)
        columns[[0, -1]] = 0, len(frames)
        return cls(transform, bins, columns, len(sound))

    def picture(self) -> UInt8[np.ndarray, "1 rows columns"]:
        """Returns the power as grey levels, in decibels below the loudest place; low ones are at
        the bottom.
        """
        power = np.abs(self.transform) ** 2
        bands = np.stack([power[:, some].mean(axis=1) for some in map(self._bins, range(ROWS))])
        cells = np.stack([bands[:, some].mean(axis=1) for some in map(self._frames, range(COLUMNS))], axis=1)
        decibels = 10 * np.log10(np.maximum(cells, _LEAST_POWER))
        above = np.maximum(0.0, decibels - max(decibels.max() - _RANGE_DB, 0.0))
        levels: np.ndarray = np.rint(255 * above[::-1] / max(above.max(), 1.0)).astype(np.uint8)
        return levels[None]

    def without(self, sound: Int16[np.ndarray, " length"], rows: slice, columns: slice) -> Int16[np.ndarray, " length"]:
        """Returns the sound without what lies in some rows and columns of the picture."""
        size = 2 * (self.transform.shape[1] - 1)
        # 1. The bins and frames there; of a picture the first row is the highest band.
        bins = slice(self._bins(ROWS - rows.stop).start, self._bins(ROWS - 1 - rows.start).stop)
        frames = slice(self._frames(columns.start).start, self._frames(columns.stop - 1).stop)
        piece = np.zeros_like(self.transform[frames])
        piece[:, bins] = self.transform[frames, bins]
        # 2. They as a sound: frames are windowed again, and added where they overlap.
        waves = np.fft.irfft(piece, n=size, axis=1) * _hann(size) / _OVERLAP
        hop = size // _HOPS
        added = np.zeros(2 * size + self.length + hop + len(waves) * hop)
        for number, wave in enumerate(waves, start=frames.start):
            added[number * hop : number * hop + size] += wave
        # 3. The sound less that.
        rest = np.rint(sound - added[size : size + self.length]).clip(-(1 << 15), (1 << 15) - 1)
        rounded: np.ndarray = rest.astype(np.int16)
        return rounded

    def _bins(self, band: int) -> slice:
        """Returns the bins of a band, at least one; 0 is the lowest band."""
        start = min(int(self.bin_edges[band]), self.transform.shape[1] - 1)
        return slice(start, max(start + 1, int(self.bin_edges[band + 1])))

    def _frames(self, column: int) -> slice:
        """Returns the frames of a column, at least one."""
        start = min(int(self.frame_edges[column]), len(self.transform) - 1)
        return slice(start, max(start + 1, int(self.frame_edges[column + 1])))


def _hann(size: int) -> Float[np.ndarray, " size"]:
    """Returns a Hann window, moved copies of which add up to the same everywhere."""
    window: np.ndarray = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    return window
