"""The anchors of a store that is being written, range of rows by range of rows."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from pipeline.core.arrays import ArrayGroup, ArrayLayout
from pipeline.core.errors import PipelineError, StoreError
from pipeline.core.progress import say
from pipeline.core.sealed import read_sealed, write_sealed
from pipeline.labels.encodings import Field
from pipeline.labels.fields import Labels, as_slice, block_digest
from pipeline.labels.manifest import AnchorBlock, Manifest


class AnchorWriter:
    """The writer of a store's anchors, and their reader for the labels that stand on them.

    A range counts as written when its record stands beside the store and the anchors are what it
    states: each process looks once, whoever wrote them. Where the encoding has none, there is
    nothing to write, and all of it is there.

    Args:
        fields: The arrays by name.
    """

    def __init__(self, group: ArrayGroup, records: Path, fields: Mapping[str, Field]) -> None:
        self._group, self._records, self._fields = group, records, fields
        self._known: set[range] = set()
        self._held: tuple[range, Labels] = (range(0), {})

    def begin(self, manifest: Manifest) -> None:
        """Declares the arrays."""
        for name, field in self._fields.items():
            layout = ArrayLayout(block_rows=manifest.block_samples, by_column=field.by_column)
            shape = (manifest.num_samples, *field.shape)
            self._group.create_array(name, shape, field.dtype, fill_value=field.fill_value, layout=layout)

    def has(self, rows: range) -> bool:
        """Returns whether the anchors of a range are on disk, whole."""
        if self._fields and rows not in self._known:
            try:
                self.read(rows)
            except PipelineError:
                return False
            self._known.add(rows)
        return True

    def read(self, rows: range) -> Labels:
        """Returns the anchors of a range; raises StoreError or DataError where they are not as they
        were written.
        """
        if not self._fields:
            return {}
        held_rows, held = self._held
        if rows == held_rows:
            return held
        values = {name: self._group.read(name, as_slice(rows)) for name in self._fields}
        if block_digest(values) != self.digest(rows):
            raise StoreError(self._group.path, f"block {AnchorBlock(rows).name} is not what was written")
        held = {name: torch.from_numpy(array) for name, array in values.items()}
        self._held = (rows, held)
        return held

    def write(self, rows: range, anchors: Labels) -> None:
        """Commits the anchors of a range; its caller is the only one who may write them."""
        record = self._record(rows)
        if record.exists():
            say(f"{self._group.path}: block {AnchorBlock(rows).name} was lost or damaged: made again")
            record.unlink()
        self._held = (range(0), {})
        values = {name: anchors[name].cpu().numpy() for name in self._fields}
        for name, array in values.items():
            self._group.drop(name, as_slice(rows))
            self._group.write(name, array, as_slice(rows))
        write_sealed(record, {"digest": block_digest(values)}, indent=None)

    def digest(self, rows: range) -> int | None:
        """Returns the digest of the anchors that were written for a range; None where the encoding
        has none. Raises DataError where they were not written.
        """
        if not self._fields:
            return None
        return int(read_sealed(self._record(rows), made_by="dump_labels")["digest"])

    def put_digests(self, manifest: Manifest) -> None:
        """Writes the digests of all ranges as an array, where the encoding has anchors."""
        if self._fields:
            digests = [self.digest(rows) for rows in manifest.ranges()]
            self._group.put("anchor_digest", np.array(digests, dtype=np.uint64))

    def _record(self, rows: range) -> Path:
        return self._records / f"anchors-{rows.start}.json"
