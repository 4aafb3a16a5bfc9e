"""What a source is: settings that know the classes and give the images one after the other, as they came."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True)
class RawImage:
    """One image as it came.

    Attributes:
        split: `train`, `val` or `test`.
        label: The name of its class; None where it is unlabelled.
        key: Where it is, for messages and lists: a path, `x.tar:member`, `x.parquet:17`. Relative to the source's
            path, and the same in every run.
        content: An encoded image file, the path of one (read by the threads that decode), or pixels.
    """

    split: str
    label: str | None
    key: str
    content: bytes | Path | UInt8[np.ndarray, "channels height width"]


class Source(ABC):
    """Where raw images come from. Subclasses are frozen dataclasses; their attributes are the settings in `params.yaml`.

    `raw` is the folder for downloads; a source of the user's own files has a `path` of its own. Whatever is wrong is a
    SourceError, in one line that names the file; an image that can't be decoded is the reader's to report.
    """

    kind: ClassVar[str]
    #: Whether images lie outside `path`, where nobody looks for changes before they are read.
    names_other_files: ClassVar[bool] = False

    @abstractmethod
    def class_names(self, raw: Path) -> tuple[str, ...]:
        """The classes in the order of their numbers; all that can be checked without decoding is checked here."""

    @abstractmethod
    def count(self, raw: Path) -> int | None:
        """How many images there are, in all splits together; None where counting would take a pass over them."""

    @abstractmethod
    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        """All images but the first `start`, in an order that is the same in every run."""

    def files_fingerprint(self) -> str | None:
        """Returns 32 hex digits of the names, sizes and times of the files at `path`; None when there is no `path`.

        Work that was begun with other files does not go on.
        """
        place = getattr(self, "path", None)
        if not isinstance(place, str):
            return None
        digest = hashlib.sha256()
        for path in _walk(Path(place)):
            stat = path.stat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:32]


def _walk(path: Path) -> Iterator[Path]:
    """Yields the files at and below a path in their order; of a pattern, those in the folder that it begins with."""
    if path.is_file():
        yield path
    elif not path.is_dir():
        folder = next(parent for parent in path.parents if parent.is_dir())
        yield from sorted(file for file in folder.iterdir() if file.is_file())
    else:
        for here, folders, files in os.walk(path, followlinks=True):
            folders.sort()
            yield from (file for name in sorted(files) if (file := Path(here, name)).exists())
