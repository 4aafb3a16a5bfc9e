"""Sounds in files (wav, flac, ogg) as 16-bit numbers at one rate; it imports soundfile.

1. Channels are averaged. Whole numbers are added up before they are divided, so 16 and 24 bits are
   rounded once, halves up.
2. Another rate is resampled by scipy's polyphase filter, in 64 bits.
3. The result is rounded to 16 bits.
"""

import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int16, Shaped

from pipeline.core.errors import SourceError
from pipeline.core.plain_files import odd_file
from pipeline.data.file_content import DecodeError

_FULL = 1 << 15  # a value of 1 in units of 16 bits
_WHOLE = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ALAW", "ULAW"}
_UNSCALED = {"FLOAT", "DOUBLE"}  # of which values beyond 1 are another scale, not a codec's rounding
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # of a wav that was written as a stream
_LAST_PAGE = 1 << 16  # bytes of ogg at most


@dataclass(frozen=True)
class Window:
    """A part of a sound: the one with this number, of so many seconds."""

    number: int
    seconds: float

    def place(self, rate_hz: int) -> tuple[int, int]:
        """Returns the first sample of the window, and how many there are."""
        first, end = (round(number * self.seconds * rate_hz) for number in (self.number, self.number + 1))
        return first, end - first


def window_of(content: object) -> tuple[Path, Window | None]:
    """Returns the file of a sound, and the part of it that is the sample; None: all of it."""
    if isinstance(content, tuple):
        path, window = content
        assert isinstance(window, Window), "so it was put together"
        return path, window
    assert isinstance(content, Path), "sounds are in files"
    return content, None


class SoundHeader(NamedTuple):
    """The facts about a sound that its header states."""

    rate_hz: int
    channels: int
    length: int


def read_header(path: Path) -> SoundHeader:
    """Returns the facts in a file's header; raises DecodeError where it is no sound."""
    with _opened(path) as file:
        return SoundHeader(file.samplerate, file.channels, file.frames)


def read_sound(path: Path, rate_hz: int, window: Window | None = None) -> Int16[np.ndarray, " length"]:
    """Returns the samples of a file, or those of a window of it, which is resampled on its own.

    Raises DecodeError where it is no sound, has no samples, is cut short, or has values that are no
    numbers or beyond 1.
    """
    with _opened(path) as file:
        if fault := _cut_short(path):
            raise DecodeError(fault)
        rate, expected = file.samplerate, file.frames
        first, count = (0, expected) if window is None else window.place(rate)
        expected = min(count, expected - first)
        if expected <= 0:
            raise DecodeError("has no samples")
        found = _mean(_values(file, first, count))
    if len(found) < expected:
        raise DecodeError(f"cut short: {len(found):,} of {expected:,} samples")
    if rate != rate_hz:
        found = _resampled(found, rate, rate_hz)
    # Halves go up: a mean of whole numbers is exact in 64 bits.
    return np.clip(np.floor(found + 0.5), -_FULL, _FULL - 1).astype(np.int16)


def _opened(path: Path) -> Any:
    soundfile = _soundfile()
    if odd := odd_file(path):
        raise DecodeError(odd)
    try:
        if not path.stat().st_size:
            raise DecodeError("empty (0 bytes)")
        return soundfile.SoundFile(str(path))
    except FileNotFoundError:
        raise DecodeError("a link to nowhere" if path.is_symlink() else "no such file") from None
    except OSError as error:
        raise DecodeError(f"can't be read ({error.strerror})") from None
    except soundfile.LibsndfileError as error:
        raise DecodeError(f"not a sound ({str(error.error_string).rstrip('.')})") from None


def _values(file: Any, first: int, count: int) -> Shaped[np.ndarray, "length channels"]:
    """Returns what a file holds in units of 16 bits: whole numbers of 1/65536 of them where it
    holds whole numbers.
    """
    try:
        file.seek(first)
        if file.subtype in _WHOLE:
            whole: np.ndarray = file.read(count, dtype="int32", always_2d=True)
            return whole
        values: Float64[np.ndarray, "length channels"] = file.read(count, dtype="float64", always_2d=True)
    except _soundfile().LibsndfileError as error:
        raise DecodeError(f"cut short or broken ({str(error.error_string).rstrip('.')})") from None
    if not np.isfinite(values).all():
        raise DecodeError("has values that are no numbers (NaN or infinite)")
    if file.subtype in _UNSCALED and values.size and (most := float(np.abs(values).max())) > 1:
        raise DecodeError(f"has values up to {most:.4g}, expected -1 to 1: scale it")
    return values * _FULL


def _mean(values: Shaped[np.ndarray, "length channels"]) -> Float64[np.ndarray, " length"]:
    """Returns the mean of all channels, in units of 16 bits."""
    unit = 1
    if values.dtype == np.int32:
        values, unit = values.astype(np.int64), 1 << 16
    mean: Float64[np.ndarray, " length"] = values.sum(axis=1) / (values.shape[1] * unit)
    return mean


def _resampled(values: Float64[np.ndarray, " length"], rate: int, wanted: int) -> Float64[np.ndarray, " other_length"]:
    from scipy.signal import resample_poly

    shared = math.gcd(rate, wanted)
    found: np.ndarray = resample_poly(values, wanted // shared, rate // shared)
    return found


def _cut_short(path: Path) -> str | None:
    """Returns a remark about a file that ends before its sound does, which libsndfile passes over
    in silence.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            while len(chunk := file.read(8)) == 8:
                name, long = struct.unpack("<4sI", chunk)
                if name == b"data":
                    there = size - file.tell()
                    lacks = long not in _UNKNOWN_SIZES and long > there
                    return f"cut short: {there:,} of {long:,} bytes of sound" if lacks else None
                file.seek(long + long % 2, io.SEEK_CUR)
        if head[:4] == b"OggS":
            file.seek(max(0, size - _LAST_PAGE))
            tail = file.read()
            flags = tail[tail.rfind(b"OggS") + 5 :][:1] if b"OggS" in tail else b""
            return None if flags and flags[0] & 4 else "cut short: its last page is missing"
    return None


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        fix = "pip install 'potstill[sound]'"
        raise SourceError("sounds", f"soundfile can't be imported ({error})", fix=fix) from None
    return soundfile
