"""Sounds in files, and long ones cut into windows, each of which is a sample of its own."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.data.file_content import DecodeError
from pipeline.preparation.sound_files import Window, read_header, window_of
from pipeline.preparation.sources.base import RawImage, Source

_MARK = "@"  # in a key, between the file and the second at which a window begins
#: The setting `window_seconds`.
WindowSeconds = Annotated[float, Field(ge=0.01, le=3600)] | None


class SoundSource(Source):
    """A source of sounds. With `window_seconds` each is cut into windows of that length, and the
    windows of a file stay in one split.

    It stands before the source of files among the bases of a class.
    """

    window_seconds: WindowSeconds
    input_kind = "waveform"

    def group_of(self, key: str) -> str | None:
        return None if self.window_seconds is None else key.rpartition(_MARK)[0]

    # How many windows there are is known when all headers have been read.

    def counts(self, raw: Path) -> Mapping[tuple[str, str | None], int] | None:
        return None if self.window_seconds else super().counts(raw)

    def split_sizes(self, raw: Path) -> Mapping[str, int] | None:
        return None if self.window_seconds else super().split_sizes(raw)

    def count(self, raw: Path) -> int | None:
        return None if self.window_seconds else super().count(raw)  # type: ignore[safe-super]

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        if self.window_seconds is None:
            return super().images(raw, start)  # type: ignore[safe-super]
        return in_windows(super().images(raw), self.window_seconds, start)  # type: ignore[safe-super]


def in_windows(sounds: Iterator[RawImage], seconds: float, start: int) -> Iterator[RawImage]:
    """Yields the windows of some sounds after the first `start`.

    A rest that is shorter than a window is left out, unless it is all of the sound. A broken sound
    is one window, for its reader to report.
    """
    return islice((window for sound in sounds for window in _windows(sound, seconds)), start, None)


def _windows(sound: RawImage, seconds: float) -> Iterator[RawImage]:
    path, _ = window_of(sound.content)
    try:
        header = read_header(path)
        count = max(1, int(header.length / header.rate_hz / seconds + 1e-9))
    except DecodeError:
        count = 1
    for number in range(count):
        key = f"{sound.key}{_MARK}{number * seconds:g}"
        yield replace(sound, key=key, content=(path, Window(number, seconds)))
