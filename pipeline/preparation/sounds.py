"""A raw sound made ready: decoded, resampled to one rate, cut or padded to one length."""

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int16
from pydantic import Field
from pydantic.dataclasses import dataclass as validated

from pipeline.core.config import STRICT
from pipeline.core.errors import DataError
from pipeline.core.progress import say
from pipeline.data.content import Content
from pipeline.data.file_content import DecodeError
from pipeline.data.images import Storage
from pipeline.data.input_kinds import WAVEFORM, InputKind
from pipeline.preparation.form import Form, Look
from pipeline.preparation.made import Broken, Made
from pipeline.preparation.sound_files import SoundHeader, read_header, read_sound, window_of
from pipeline.preparation.sources.base import RawImage, Source

if TYPE_CHECKING:
    from pipeline.preparation.settings import Prepare

Crop = Literal["centre", "start"]


@validated(frozen=True, kw_only=True, config=STRICT)
class SoundSettings:
    """The section `prepare.sound`.

    Attributes:
        rate_hz: The rate that all sounds are resampled to; None: the commonest one found.
        seconds: The length of all sounds; None: that of the longest one.
        crop: The part that is kept of a longer sound; a shorter one has zeros behind its end.
    """

    rate_hz: Annotated[int, Field(ge=100, le=384_000)] | None = None
    seconds: Annotated[float, Field(ge=0.001, le=3600)] | None = None
    crop: Crop = "centre"


@dataclass(frozen=True)
class SoundForm(Form):
    """The form that every sound is made into.

    Attributes:
        length: The samples of each sound.
    """

    rate_hz: int
    length: int
    crop: Crop
    storage: Storage = "pixels"

    kind: ClassVar[InputKind] = WAVEFORM

    def make(self, raw: RawImage) -> Made | Broken:
        """Returns a sound as it is kept; several threads do this at a time."""
        path, window = window_of(raw.content)
        try:
            sound = self.fitted(read_sound(path, self.rate_hz, window))
        except DecodeError as error:
            return Broken(raw.key, error.reason)
        sample_id = int(self._content.ids(sound[None])[0])
        stored = sound.astype("<i2").tobytes()
        crc = zlib.crc32(stored)
        return Made(raw.split, raw.label, raw.key, sound.shape, sample_id, stored, crc, None)

    def fitted(self, sound: Int16[np.ndarray, " any"]) -> Int16[np.ndarray, " length"]:
        """Returns a sound of the set length: a part of it, or all of it and zeros."""
        spare = len(sound) - self.length
        if spare < 0:
            padded: np.ndarray = np.pad(sound, (0, -spare))
            return padded
        first = spare // 2 if self.crop == "centre" else 0
        return sound[first : first + self.length]

    def found(self) -> dict[str, Any]:
        return {"rate_hz": self.rate_hz, "length": self.length}

    def with_found(self, found: Mapping[str, Any]) -> "SoundForm":
        return replace(self, **found)

    def facts(self, folder: Path, train: Iterator[np.ndarray]) -> dict[str, Any]:
        silent = sum(int((~sounds.any(axis=1)).sum()) for sounds in train)
        if silent:
            say(f"prepare: {silent:,} training sounds are silent (zeros alone): check them")
        return {"kind": self.kind.name, "rate_hz": self.rate_hz, "crop": self.crop}

    @property
    def _content(self) -> Content:
        return Content(self.kind, str(self.rate_hz))


@dataclass
class SoundLook(Look):
    """The sounds that were looked at.

    Attributes:
        rates: Sounds by rate; `channels` by number of channels.
        seconds: The shortest and the longest.
        examples: The first sound of each rate, and of each number of channels.
    """

    rates: Counter[int] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    seconds: tuple[float, float] | None = None
    examples: dict[tuple[str, int], str] = field(default_factory=dict)

    def add(self, raw: RawImage) -> None:
        if (header := _header(raw)) is None:
            return
        self.rates[header.rate_hz] += 1
        self.channels[header.channels] += 1
        self.examples.setdefault(("rate", header.rate_hz), raw.key)
        self.examples.setdefault(("channels", header.channels), raw.key)
        seconds = header.length / header.rate_hz
        least, most = self.seconds or (seconds, seconds)
        self.seconds = min(least, seconds), max(most, seconds)

    def decided(self, settings: "Prepare", source: Source, raw: Path) -> SoundForm:
        """Returns the form: as it is set, or else by the headers of all sounds, so that it does not
        depend on how many could be listed in a few seconds.

        Raises DataError where no sound can be read.
        """
        own = settings.sound or SoundSettings()
        rate_hz, seconds = own.rate_hz, own.seconds
        if rate_hz is None or seconds is None:
            headers = [header for one in source.images(raw) if (header := _header(one)) is not None]
            if not headers:
                expected = "sounds; or prepare.sound.rate_hz and .seconds, for them to be reported one by one"
                raise DataError(f"source {source.kind!r}", "no file with a sound in it", expected=expected)
            rates = Counter(header.rate_hz for header in headers)
            rate_hz = rate_hz or max(rates, key=lambda rate: (rates[rate], rate))
            seconds = seconds or max(header.length / header.rate_hz for header in headers)
        length = round(seconds * rate_hz)
        if length < 1:
            found = f"{seconds:g} seconds at {rate_hz} Hz"
            raise DataError("prepare.sound.seconds", found, expected="a sample at least")
        return SoundForm(rate_hz, length, own.crop)

    def lines(self, form: SoundForm) -> list[str]:
        least, most = self.seconds or (0.0, 0.0)
        made = f"each made {form.length / form.rate_hz:g} s at {form.rate_hz:,} Hz ({form.length:,} samples)"
        lines = [f"sounds: {self.rates.total():,} were looked at, {least:.2f} to {most:.2f} s; {made}"]
        others = [rate for rate in sorted(self.rates) if rate != form.rate_hz]
        for rate in others:
            lines.append(f"rate: {self._some(self.rates[rate], 'rate', rate)} {rate:,} Hz, resampled")
        for count in sorted(number for number in self.channels if number != 1):
            lines.append(f"channels: {self._some(self.channels[count], 'channels', count)} {count} channels, averaged")
        return lines

    def _some(self, count: int, what: str, value: int) -> str:
        return f"{count:,} of these sounds (e.g. {self.examples[what, value]!r}) have"


def _header(raw: RawImage) -> SoundHeader | None:
    """Returns the header of a sound, or of the window of one; None for a broken one, which its
    reader reports.
    """
    path, window = window_of(raw.content)
    try:
        header = read_header(path)
    except DecodeError:
        return None
    if not header.length:
        return None
    if window is None:
        return header
    first, count = window.place(header.rate_hz)
    return header._replace(length=min(header.length - first, count))
