"""A source, and a raw image: settings that know the classes and yield the images one after the
other.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from pipeline.data.input_kinds import InputKindName
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.sources.inputs import look_at
from pipeline.preparation.sources.label_sets import Label
from pipeline.preparation.sources.notes import Notes


@dataclass(slots=True)  # not frozen, which would take three times as long to make
class RawImage:
    """An image as it came.

    Attributes:
        split: `train`, `val` or `test`.
        label: The name of its class, the set of its classes, or its mask; None when it is
            unlabelled.
        key: Its place, for messages and lists: a path, `x.tar:member`, `x.parquet:17`. Relative to
            the source's path, and the same in every run.
        content: An encoded file, the path of one (read by the threads that decode), or pixels; a
            text; the cells of a row; a path with the window of a sound.
    """

    split: str
    label: Label
    key: str
    content: bytes | Path | UInt8[np.ndarray, "channels height width"] | str | tuple[object, ...]

    @property
    def of_image(self) -> bytes | Path | UInt8[np.ndarray, "channels height width"]:
        """The content, of an image."""
        assert not isinstance(self.content, (str, tuple)), "it is an image"
        return self.content


class Source(ABC):
    """A place that raw images come from. Subclasses are frozen dataclasses of their settings in
    `params.yaml`.

    `raw` is the folder for downloads; a source of the user's own files has a `path`. Whatever is
    wrong raises SourceError, in one line that names the file. An image that can't be decoded is no
    such fault: its reader reports it."""

    kind: ClassVar[str]
    #: The kind of its samples.
    input_kind: ClassVar[InputKindName] = "image"

    @cached_property
    def notes(self) -> Notes:
        """The remarks about what was left out and how the rest was read; `class_names` adds
        them.
        """
        return Notes()

    @property
    def signal(self) -> SignalKind:
        """The meaning of labels: one class of several, a set of independent classes, or a class of
        each pixel.
        """
        return "categorical"

    @abstractmethod
    def class_names(self, raw: Path) -> tuple[str, ...]:
        """Returns the classes in the order of their numbers, and checks what it can."""

    def counts(self, raw: Path) -> Mapping[tuple[str, str | None], int] | None:
        """Returns the images by split and class, the class None for unlabelled ones; None where the
        labels have not been read. An image of several classes counts for each of them.
        """
        return None

    def split_sizes(self, raw: Path) -> Mapping[str, int] | None:
        """Returns the images by split; None where the labels have not been read."""
        counts, sizes = self.counts(raw), Counter[str]()
        for (split, _), count in (counts or {}).items():
            sizes[split] += count
        return None if counts is None else sizes

    @abstractmethod
    def count(self, raw: Path) -> int | None:
        """Returns the number of images in all splits; None if counting would take a pass."""

    @abstractmethod
    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        """Yields all images after the first `start`, in an order that is the same in every run."""

    def borders(self, raw: Path) -> Sequence[int] | None:
        """Returns the numbers of images before which reading begins without a pass over others: the
        ends of files that are read from the front. None: any number.
        """
        return None

    def group_of(self, key: str) -> str | None:
        """Returns the group that a sample belongs to by its key: samples of one group stay in one
        split. None: each is a group of its own.
        """
        return None

    def files(self) -> Iterator[str]:
        """Yields the paths of all files that are read, in an order that is the same in every run.

        A file that is not there, such as one that a table names, is among them.
        """
        yield from ()

    def files_fingerprint(self) -> str | None:
        """Returns 32 hex digits of the names, sizes and times of all files that are read; None
        where there are none.

        Work that was begun with other files does not go on.
        """
        return look_at(self.files()).fingerprint

    def meant(self, missing: str) -> Path | None:
        """Returns the file that was probably meant by one that is not there."""
        return None
