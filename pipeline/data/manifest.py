"""The manifest of a prepared data set: the facts about the data set as a whole."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import DataError
from pipeline.core.files import read_json
from pipeline.core.sealed import unseal
from pipeline.data.images import Storage
from pipeline.data.input_kinds import INPUT_KINDS, InputKind
from pipeline.data.sample_ids import FIX
from pipeline.data.signal_kinds import SignalKind

FORMAT = "potstill-images"
VERSION = 1


@dataclass(frozen=True)
class DatasetManifest:
    """The facts about a prepared data set as a whole, as `manifest.json` has them.

    Args:
        image_shape: Channels, height, width of every image; the shape of a sample of another kind.
        mean: Per channel, of the training split, in units of 255 levels; `std` likewise. None for
            other kinds.
        input: Where samples are no images: their `kind`, and what is to be known of them
            (docs/inputs.md).
    """

    source: str
    class_names: list[str]
    image_shape: list[int]
    mean: list[float]
    std: list[float]
    num_samples: dict[str, int]
    fingerprints: dict[str, str]
    num_repeated_in_train: int
    num_shared_with_test: int
    num_shared_with_val: int = 0
    num_unlabelled: int = 0
    num_skipped: int = 0
    storage: Storage = "pixels"
    signal: SignalKind = "categorical"
    input: dict[str, Any] | None = None
    format: str = FORMAT
    version: int = VERSION

    @property
    def kind(self) -> InputKind:
        """The kind of the samples."""
        return INPUT_KINDS[(self.input or {"kind": "image"})["kind"]]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample's input, for rooms that do not ask what kind it is."""
        return tuple(self.image_shape)

    @property
    def positions(self) -> tuple[int, int] | None:
        """The height and width of a map of classes; None where a sample has no map."""
        return (self.image_shape[1], self.image_shape[2]) if self.signal == "grid" else None

    @property
    def bytes_each(self) -> int:
        """The bytes of one sample's input in memory."""
        return math.prod(self.input_shape) * self.kind.dtype.itemsize

    def input_bytes(self, *names: str) -> int:
        """Returns the bytes that the inputs of some splits take in memory, with their maps of
        classes.
        """
        of_map = 2 * math.prod(self.input_shape[1:]) if self.signal == "grid" else 0
        return sum(self.num_samples[name] for name in names) * (self.bytes_each + of_map)

    def to_dict(self) -> dict[str, Any]:
        """Returns the manifest as plain values; that of images has no entry `input`."""
        values = asdict(self)
        return values if self.input is not None else {key: values[key] for key in values if key != "input"}

    @classmethod
    def read(cls, path: Path) -> "DatasetManifest":
        """Returns the manifest in a file; raises DataError where it is none of this version, or not
        as it was written.
        """
        content = read_json(path, made_by="prepare")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DataError(path, "not a data set's manifest", expected=f"format {FORMAT!r}", fix=FIX)
        if content.get("version") != VERSION:
            raise DataError(path, f"version {content.get('version')}", expected=f"version {VERSION}", fix=FIX)
        try:
            return cls(**unseal(content, path, made_by="prepare"))
        except TypeError as error:
            raise DataError(path, f"not a data set's manifest ({error})", fix=FIX) from None
