"""The mask of an image: the class of each of its pixels, as a source has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import UInt8
from pydantic import Field

from pipeline.core.errors import SourceError
from pipeline.preparation.sources.accents import as_on_disk
from pipeline.preparation.sources.labels import NO_LABEL, ClassList, read_classes, text_of

Ignore = Annotated[int, Field(ge=0, le=255)] | None  # the setting `ignore`


@dataclass(frozen=True)
class Masks:
    """The meaning of the numbers in all masks of a source.

    Attributes:
        class_names: The classes 0, 1 and so on.
        ignore: The number of pixels of which nothing is known; None: all are known.
    """

    class_names: Sequence[str]
    ignore: int | None = None

    @classmethod
    def of_settings(cls, classes: ClassList, ignore: int | None) -> "Masks":
        """Returns them as the settings of a source say; raises SourceError for no classes, or an
        `ignore` that is one of them.
        """
        names = read_classes(classes).names
        if names is None:
            expected = "the names of 0, 1 and so on: a list, or a file with one a line"
            raise SourceError("classes", "not given, and masks have numbers alone", expected=expected)
        if ignore is not None and ignore < len(names):
            found = f"{ignore}, which is the number of the class {names[ignore]!r}"
            raise SourceError("ignore", found, expected=f"{len(names)} to 255, or null", fix="leave it out")
        return cls(names, ignore)


@dataclass(frozen=True)
class Mask:
    """The mask of one image; whoever makes the image ready reads it.

    Attributes:
        content: A file, read by the threads that decode, or the numbers themselves.
        where: Its place, for messages.
    """

    content: Path | UInt8[np.ndarray, "1 height width"]
    where: str
    kind: Masks


class MaskReading(NamedTuple):
    """A mask, or None, and a remark where it may be meant otherwise."""

    name: Mask | None
    remark: str = ""


@dataclass(frozen=True)
class MaskReader:
    """The reading of paths of masks; it takes the place of `Classes`.

    Attributes:
        root: The folder that they are relative to.
    """

    kind: Masks
    root: Path

    def name(self, label: object, where: object) -> Mask | None:
        """Returns the mask whose path was found; None for no path."""
        return self.read(label, where).name

    def read(self, label: object, where: object) -> MaskReading:
        """Returns what a path as it was found means; raises SourceError where it is none."""
        text = text_of(label, where)
        if text in NO_LABEL:
            return MaskReading(None, f"masks {text!r}, which stands for unlabelled" if text else "")
        if not isinstance(label, str) or "\0" in text or "://" in text:
            raise SourceError(where, f"mask {label!r}", expected="the path of a file")
        path = as_on_disk(self.root / text)
        return MaskReading(Mask(path, str(path), self.kind))
