"""The form that every sample of a data set is made into, and the look at some that decides it.

A kind of inputs has one of each: images in make.py and pixels.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from pipeline.data.images import Storage
from pipeline.data.input_kinds import InputKind
from pipeline.preparation.made import Broken, Made, Wider
from pipeline.preparation.sources.base import RawImage, Source

if TYPE_CHECKING:
    from pipeline.preparation.settings import Prepare


class Form(ABC):
    """The form of samples. Subclasses are frozen dataclasses.

    Attributes:
        kind: Of the samples.
        storage: Whether numbers are stored, or encoded files.
    """

    kind: ClassVar[InputKind]
    storage: Storage

    @property
    def num_counted(self) -> int:
        """The number of channels whose levels are counted; 0 where samples are no images."""
        return 0

    @abstractmethod
    def make(self, raw: RawImage) -> "Made | Broken | Wider":
        """Returns a sample as it is kept; several threads do this at a time."""

    def found(self) -> dict[str, Any]:
        """Returns what a look decided, as plain JSON, for a killed run to go on with."""
        return {}

    def with_found(self, found: Mapping[str, Any]) -> Self:
        """Returns the form with what an earlier run had decided."""
        return self

    def facts(self, folder: Path, train: Iterator[np.ndarray]) -> dict[str, Any] | None:
        """Returns what the data set's manifest states about its inputs (`kind` first), and writes
        the files beside it that networks need; None for images.

        Args:
            folder: Of the data set.
            train: The samples of the training split, in pieces.
        """
        return None


class Look(ABC):
    """A look at some samples of a source, from which the form of all is decided."""

    @abstractmethod
    def add(self, raw: RawImage) -> None:
        """Looks at one more sample; a broken one is passed over, because its reader reports it."""

    @abstractmethod
    def decided(self, settings: "Prepare", source: Source, raw: Path) -> Form:
        """Returns the form: as it is set, and for the rest as it was found; where all samples
        decide it, they are all read for that.
        """

    @abstractmethod
    def lines(self, form: Any) -> list[str]:
        """Returns lines about the samples, and about the form that is made of them."""
