"""A source, and a raw image: settings that know the classes and yield the images one after the
other.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from pipeline.preparation.sources.notes import Notes


@dataclass(frozen=True)
class RawImage:
    """An image as it came.

    Attributes:
        split: `train`, `val` or `test`.
        label: The name of its class; None when it is unlabelled.
        key: Its place, for messages and lists: a path, `x.tar:member`, `x.parquet:17`. Relative to
            the source's path, and the same in every run.
        content: An encoded image file, the path of one (read by the threads that decode), or
            pixels.
    """

    split: str
    label: str | None
    key: str
    content: bytes | Path | UInt8[np.ndarray, "channels height width"]


class Source(ABC):
    """A place that raw images come from. Subclasses are frozen dataclasses of their settings in
    `params.yaml`.

    `raw` is the folder for downloads; a source of the user's own files has a `path`. Whatever is
    wrong raises SourceError, in one line that names the file. An image that can't be decoded is no
    such fault: its reader reports it."""

    kind: ClassVar[str]
    #: Whether images lie outside `path`, where `files_fingerprint` does not look.
    names_other_files: ClassVar[bool] = False

    @cached_property
    def notes(self) -> Notes:
        """The remarks about what was left out and how the rest was read; `class_names` adds
        them.
        """
        return Notes()

    @abstractmethod
    def class_names(self, raw: Path) -> tuple[str, ...]:
        """Returns the classes in the order of their numbers, and checks what it can."""

    @abstractmethod
    def count(self, raw: Path) -> int | None:
        """Returns the number of images in all splits; None if counting would take a pass."""

    @abstractmethod
    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        """Yields all images after the first `start`, in an order that is the same in every run."""

    def files_fingerprint(self) -> str | None:
        """Returns 32 hex digits of the names, sizes and times of the files at `path`; None when
        there is no `path`.

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
    """Yields the files at and below a path in their order; of a pattern, those in the folder that
    it begins with.
    """
    if path.is_file():
        yield path
    elif not path.is_dir():
        folder = next(parent for parent in path.parents if parent.is_dir())
        yield from sorted(file for file in folder.iterdir() if file.is_file())
    else:
        for here, folders, files in os.walk(path, followlinks=True):
            folders.sort()
            yield from (file for name in sorted(files) if (file := Path(here, name)).exists())
