"""The section `prepare` of params.yaml."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.bounds import Pixels, Seed
from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.core.files import file_fingerprint
from pipeline.data.images import Storage
from pipeline.data.input_kinds import INPUT_KINDS, InputKindName
from pipeline.preparation.contradictions import Contradicting
from pipeline.preparation.make import MOST_BITS, Channels, ImageForm
from pipeline.preparation.rows import TableSettings
from pipeline.preparation.sounds import SoundSettings
from pipeline.preparation.text_settings import TextSettings

Fraction = Annotated[float, Field(gt=0, lt=1)]

Bits = Annotated[int, Field(ge=8, le=MOST_BITS)]


#: The keys that are for one kind of samples alone.
KEYS: dict[InputKindName, tuple[str, ...]] = {
    "image": ("image_px", "channels", "storage", "longest_px", "bits"),
    "row": ("table",),
    "tokens": ("text",),
    "waveform": ("sound",),
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Prepare:
    """The section: the source, the form of images, and the splits.

    Attributes:
        bits: Of files with 16 bits, the lower ones that are used; None: as many as hold all values.
        contradicting: What becomes of images with equal pixels in several classes.
        val_fraction: Held out of the training images when the source has no split `val`.
        test_fraction: The same of `test`.
        table: Of rows: how their cells become codes; None: as usual.
        text: The form of texts.
        group_pattern: A regular expression that finds in a sample's key the group that it belongs
            to, such as a speaker or a patient (its first bracket, or all that it matches); samples
            of one group stay in one split. None: each is a group of its own.
        sound: Of sounds; None: as they were found.
    """

    source: dict[str, Any]
    image_px: tuple[Pixels, Pixels] | None = None
    channels: Channels | None = None
    storage: Storage = "pixels"
    longest_px: Pixels | None = None
    broken: Literal["refuse", "skip"] = "refuse"
    bits: Bits | None = None
    contradicting: Contradicting = "keep"
    val_fraction: Fraction
    test_fraction: Fraction
    seed: Seed
    table: TableSettings | None = None
    group_pattern: str | None = None
    sound: SoundSettings | None = None
    text: TextSettings | None = None

    def check_kind(self, where: str, kind: InputKindName) -> None:
        """Raises ConfigError where a key is given that is for another kind of samples."""
        for of, keys in KEYS.items():
            for field in fields(self):
                if field.name in keys and of != kind and getattr(self, field.name) != field.default:
                    found = f"given, and the source has {INPUT_KINDS[kind].things}"
                    raise ConfigError(f"{where}.{field.name}", found, fix="leave it out")

    def check(self, where: str) -> None:
        """Raises ConfigError when keys contradict each other."""
        if self.longest_px and self.storage == "pixels":
            found = f"{self.longest_px}, and storage: pixels"
            raise ConfigError(f"{where}.longest_px", found, expected="null, or storage: encoded")
        if self.text is not None:
            self.text.check(f"{where}.text")
        try:
            re.compile(self.group_pattern or "")
        except re.error as error:
            found = f"{self.group_pattern!r}: {error}"
            raise ConfigError(f"{where}.group_pattern", found, expected="a regular expression") from None

    def files(self) -> list[str]:
        """Returns fingerprints of the files that settings name; they decide what is made."""
        named = [] if self.text is None or self.text.is_trained else [Path(self.text.tokenizer)]
        return [file_fingerprint(path) for path in named]

    @property
    def form(self) -> ImageForm:
        """The form that every image is made into, as far as it is set."""
        return ImageForm(self.channels, self.image_px, self.storage, self.longest_px, self.bits)
