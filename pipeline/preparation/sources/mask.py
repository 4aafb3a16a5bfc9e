"""The mask of an image: the class of each of its pixels, as a source has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pipeline.core.errors import SourceError
from pipeline.preparation.sources.labels import ClassList, read_classes


@dataclass(frozen=True)
class Masks:
    """What the numbers in all masks of a source stand for.

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
