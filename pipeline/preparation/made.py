"""A sample made ready, one that is broken, and one that asks for a wider form."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from pipeline.preparation.maps import Map
from pipeline.preparation.sources.label_sets import Label

if TYPE_CHECKING:
    from pipeline.preparation.form import Form


@dataclass(slots=True)
class Made:
    """A sample as it is kept.

    Attributes:
        stored: Its numbers, or its encoded file.
        crc: CRC-32 of `stored`.
        counted: Its pixels, until their levels are counted; None unless it is an image for
            training.
        map: The class of each pixel, where it came with a mask; `label` is then None.
    """

    split: str
    label: Label
    key: str
    shape: tuple[int, ...]
    sample_id: int
    stored: bytes | memoryview
    crc: int
    counted: UInt8[np.ndarray, "channels height width"] | None
    map: Map | None = None

    @property
    def num_bytes(self) -> int:
        """The bytes that the sample and its map take in the pool."""
        return len(self.stored) + (0 if self.map is None else self.map.nbytes)


@dataclass(frozen=True)
class Broken:
    """A sample that can't be read, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Wider:
    """A sample that does not fit into the form that was found, and the form that it asks for."""

    key: str
    reason: str
    form: "Form"
