"""The anchors of a store that is being written, range of rows by range of rows."""

from collections.abc import Mapping

import numpy as np
import torch

from pipeline.core.arrays import ArrayGroup, ArrayLayout
from pipeline.core.errors import PipelineError, StoreError
from pipeline.core.progress import say
from pipeline.labelling.records import Records
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

    def __init__(self, group: ArrayGroup, records: Records, fields: Mapping[str, Field]) -> None:
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
            if not self._records.asked(self._record(rows)):
                return False
            self._records.fetch(self.files(rows))
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
        name = self._record(rows)
        if self._records.has(name):
            say(f"{self._group.path}: block {AnchorBlock(rows).name} was lost or damaged: made again")
            self._records.forget(name, self.files(rows))
        self._held = (range(0), {})
        values = {name: anchors[name].cpu().numpy() for name in self._fields}
        for array, content in values.items():
            self._group.drop(array, as_slice(rows))
            self._group.write(array, content, as_slice(rows))
        self._records.write(name, {"digest": block_digest(values)}, self.files(rows), keeps=True)

    def digest(self, rows: range) -> int | None:
        """Returns the digest of the anchors that were written for a range; None where the encoding
        has none. Raises DataError where they were not written.
        """
        if not self._fields:
            return None
        return int(self._records.read(self._record(rows))["digest"])

    def put_digests(self, manifest: Manifest) -> None:
        """Writes the digests of all ranges as an array, where the encoding has anchors."""
        if self._fields:
            digests = [self.digest(rows) for rows in manifest.ranges()]
            self._group.put("anchor_digest", np.array(digests, dtype=np.uint64))

    def files(self, rows: range) -> list[str]:
        """Returns the files of a range, by their paths in the store."""
        return [file for name in self._fields for file in self._group.part(name, as_slice(rows))]

    def parts(self, manifest: Manifest) -> dict[str, list[str]]:
        """Returns the files of all ranges, by the names of their records."""
        return {self._record(rows): self.files(rows) for rows in manifest.ranges()} if self._fields else {}

    def _record(self, rows: range) -> str:
        return f"anchors-{rows.start}"
