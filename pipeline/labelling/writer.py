"""The writer of a soft-label store, format 2 (docs/store-format.md).

A block is one view of one range of samples: one file per field, written whole by one owner. A block
counts as written when its record stands beside the store; records hold the block's digest and
fidelity and go into the store when it is finished. What an earlier run left is compared with its
record before it is trusted: what was lost or damaged meanwhile is made again. Where the encoding
has anchors, those of a range are written before its labels, whose records name their digest."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt64

from pipeline.core.arrays import DESCRIPTION, ArrayGroup, ArrayLayout
from pipeline.core.errors import PipelineError, StoreError
from pipeline.core.files import write_json
from pipeline.core.progress import say
from pipeline.labelling.anchors import AnchorWriter
from pipeline.labelling.first_views import make_anchors
from pipeline.labelling.records import Records
from pipeline.labels.canaries import CANARY_ARRAYS, Canaries
from pipeline.labels.encodings import NO_ANCHORS, Codec, build_encoding
from pipeline.labels.fidelity import Fidelity, KlTally
from pipeline.labels.fields import (
    SAMPLES_ARRAYS,
    Anchors,
    Labels,
    arrays_digest,
    as_slice,
    beside_labels,
    block_digest,
    gather,
    labels_of,
)
from pipeline.labels.manifest import VERSION, Block, Manifest
from pipeline.labels.samples import StoredSamples
from pipeline.views.plan import RowOrder
from pipeline.views.spec import ViewSpec


class StoreWriter:
    """A writer of one store, block by block; what is already there is kept, so that a killed writer
    goes on.

    Several processes may write one store if each block has one owner at a time and the first of
    them has begun the store before the others open it.

    Args:
        samples: By row; where their ids are known, the store gets as short keys as it needs.
        tables: What the encoding learned, `Encoding.learn`.
    """

    def __init__(
        self,
        path: Path,
        records: Records | Path,
        manifest: Manifest,
        samples: StoredSamples | UInt64[np.ndarray, " samples"],
        canaries: Canaries,
        tables: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.samples = (samples if isinstance(samples, StoredSamples) else StoredSamples.of(samples)).shortest()
        self._records = Records(records) if isinstance(records, Path) else records
        self.encoding = build_encoding(manifest.encoding, str(path))
        self.encoding.check(manifest.space, str(path))
        self._fields = self.encoding.fields(manifest.space)
        self.codec: Codec = self.encoding.codec(manifest.space, tables or {})
        if self._begun.exists() and (path / DESCRIPTION).exists():
            self._group = ArrayGroup.reopen(path)
            self.anchors = self._anchor_writer()
            self._mend(canaries, tables or {})
            self._unchecked = self._records.unchecked()
        else:
            # Also where the store was moved away and its records are left: they must not speak for
            # a new one.
            shutil.rmtree(self._records.folder, ignore_errors=True)
            self._group = ArrayGroup.create(path, manifest.signed())
            self.anchors = self._anchor_writer()
            self._begin(canaries, tables or {})
            self._unchecked = set()

    @property
    def _begun(self) -> Path:
        return self._records.folder / "begun.json"

    def _anchor_writer(self) -> AnchorWriter:
        return AnchorWriter(self._group, self._records, self.encoding.anchors(self.manifest.space))

    def _begin(self, canaries: Canaries, tables: Mapping[str, np.ndarray]) -> None:
        group = self._group
        group.set_attributes(self.manifest.signed())  # a finished store that stands there is no longer that one
        for name, (array, fill_value) in self._beside(canaries, tables).items():
            group.put(name, array, fill_value=fill_value, layout=self._layout_beside(name))
        shape = (self.manifest.num_views, self.manifest.num_samples)
        for name, label_field in self._fields.items():
            group.create_array(
                name,
                (*shape, *label_field.shape),
                label_field.dtype,
                fill_value=label_field.fill_value,
                layout=ArrayLayout(row_axis=1, block_rows=self.manifest.block_samples, by_column=label_field.by_column),
            )
        self.anchors.begin(self.manifest)
        write_json(self._begun, {})

    def _beside(
        self, canaries: Canaries, tables: Mapping[str, np.ndarray]
    ) -> dict[str, tuple[np.ndarray, float | int]]:
        """Returns what stands beside the labels from the beginning, and the arrays' fill values."""
        learned = self.encoding.tables(self.manifest.space)
        return {
            SAMPLES_ARRAYS[VERSION]: (self.samples.to_bytes(), 0),
            **{array: (getattr(canaries, name), 0) for name, array in CANARY_ARRAYS.items()},
            **{name: (tables[name], table.fill_value) for name, table in learned.items()},
        }

    def _layout_beside(self, name: str) -> ArrayLayout:
        """Returns how what stands beside the labels lies on disk: like bytes of keys together."""
        rows = self.manifest.num_samples
        return ArrayLayout(block_rows=rows, by_column=True) if name == SAMPLES_ARRAYS[VERSION] else ArrayLayout()

    def _mend(self, canaries: Canaries, tables: Mapping[str, np.ndarray]) -> None:
        """Writes again what stands beside the labels and is not as an earlier run wrote it."""
        for name, (array, fill_value) in self._beside(canaries, tables).items():
            try:
                whole = np.array_equal(self._group.read_whole(name), array)
            except StoreError:
                whole = False
            if not whole:
                self._group.put(name, array, fill_value=fill_value, layout=self._layout_beside(name))

    def has(self, block: Block) -> bool:
        """Returns whether this run knows the block to be on disk, whole."""
        name = _record(block)
        return not self._fields or (name not in self._unchecked and self._records.has(name))

    def settle(self, block: Block) -> bool:
        """Returns whether the block is on disk, whole; its caller is the only one who may write it.

        One that an earlier run left is read, and forgotten where it is lost or damaged. Without its
        anchors, no block is whole.
        """
        name = _record(block)
        if not self.anchors.has(block.rows):
            return False
        if name in self._unchecked:
            self._unchecked.discard(name)
            if not self._is_whole(block):
                say(f"{self.path}: block {block.name} was lost or damaged since it was written: made again")
                self._records.forget(name, self._files(block))
                for field in self._fields:
                    self._group.drop(field, block.view_index, as_slice(block.rows))
        return not self._fields or self._records.asked(name)

    def parts(self) -> dict[str, list[str]]:
        """Returns the files of all blocks, of anchors too, by the names of their records."""
        blocks = {_record(block): self._files(block) for block in self.manifest.blocks()} if self._fields else {}
        return self.anchors.parts(self.manifest) | blocks

    def _files(self, block: Block) -> list[str]:
        rows = as_slice(block.rows)
        return [file for name in self._fields for file in self._group.part(name, block.view_index, rows)]

    def _is_whole(self, block: Block) -> bool:
        """Returns whether a block is what its record says."""
        try:
            values = {name: self._group.read(name, block.view_index, as_slice(block.rows)) for name in self._fields}
            record = self._records.read(_record(block))
            stands = record.get("anchors") == self.anchors.digest(block.rows)
            return stands and bool(block_digest(values) == record["digest"])
        except PipelineError:
            return False

    def labels_of(
        self,
        block: Block,
        logits: Float[torch.Tensor, "rows classes *grid"],
        rows: Int64[np.ndarray, " rows"],
        drawn: Anchors = NO_ANCHORS,
    ) -> tuple[Labels, Fidelity]:
        """Returns labels of some rows of a block, made of finite logits, and their fidelity.

        Args:
            drawn: The fields from which positions follow, where the logits are those of positions
                that were drawn before.
        """
        beside = gather(self.anchors.read(block.rows), rows - block.rows.start) | dict(drawn)
        return labels_of(self.codec, logits, self.sample_ids[rows], block.view, beside)

    @property
    def sample_ids(self) -> UInt64[np.ndarray, " samples"]:
        """The sample ids, or what stands for them where labels are made without the data."""
        return self.samples.numbers

    @cached_property
    def views(self) -> ViewSpec:
        """The specification of the views whose labels these are."""
        return ViewSpec.from_dict(self.manifest.views, f"{self.path}: views")

    @cached_property
    def row_order(self) -> RowOrder:
        """The sample ids in row order, and the block size: a mixed view takes its partner from the
        same block.
        """
        return RowOrder(self.sample_ids, self.manifest.block_samples, str(self.path))

    def write(
        self, block: Block, logits: Float[torch.Tensor, "rows classes *grid"], drawn: Anchors = NO_ANCHORS
    ) -> None:
        """Encodes and commits a block of finite teacher logits, and measures its fidelity; `drawn`
        as for `labels_of`.
        """
        if self._fields:
            rows = np.arange(block.rows.start, block.rows.stop)
            self.write_labels(block, *self.labels_of(block, logits, rows, drawn))

    def write_anchors(self, rows: range, mean_log_probs: Float[torch.Tensor, "rows classes"]) -> None:
        """Makes and commits the anchors of a range of rows, where the encoding has any.

        Args:
            mean_log_probs: As for `Codec.make_anchors`.
        """
        if self.encoding.anchor_views:
            self.anchors.write(rows, make_anchors(self.codec, mean_log_probs))

    def write_labels(self, block: Block, labels: Labels, fidelity: Fidelity | None) -> None:
        """Commits a block of encoded labels."""
        values = {name: labels[name].cpu().numpy() for name in self._fields}
        for name, field_values in values.items():
            self._group.write(name, field_values, block.view_index, as_slice(block.rows))
        record = {"digest": block_digest(values), "fidelity": fidelity.to_dict() if fidelity else None}
        if (anchors := self.anchors.digest(block.rows)) is not None:
            record["anchors"] = anchors
        self._records.write(_record(block), record, self._files(block))

    def finish(self, inherited: Sequence[Fidelity] = ()) -> Manifest:
        """Writes digests, fidelity and the manifest with `complete`; raises StoreError while a
        block is missing.

        Args:
            inherited: Fidelity of labels that were copied into this store without a fidelity of
                their block's own.
        """
        # 1. Gather the records of all blocks into arrays.
        fidelity = self._write_records(inherited) if self._fields else None
        # 2. Measure sizes and digests of everything that stands there now.
        sizes = self._sizes()
        space, beside = self.manifest.space, beside_labels(self.encoding, self.manifest.space)
        finished = replace(
            self.manifest,
            fidelity=fidelity.summary() if fidelity else None,
            # Of the arrays only: the manifest's own size would depend on this very number.
            label_bytes=round(sum(sizes.values()) / self.manifest.num_labels, 4),
            table_bytes=sum(sizes.get(name, 0) for name in self.encoding.tables(space)),
            anchor_bytes=sum(sizes.get(name, 0) for name in self.encoding.anchors(space)),
            arrays_digest=arrays_digest({name: self._group.read_whole(name) for name in beside}),
            complete=True,
        )
        # 3. Only now may the manifest call the store complete.
        content = finished.signed()
        self._group.set_attributes(content)
        return Manifest(**content)

    def _sizes(self) -> dict[str, int]:
        """Returns the bytes on disk by array, without what describes it."""
        here = {path.relative_to(self.path): path for path in self.path.rglob("*") if path.is_file()}
        files = {Path(name): size for name, size in self._records.sizes().items()}
        files |= {name: path.stat().st_size for name, path in here.items()}
        sizes: dict[str, int] = {}
        for name, size in files.items():
            if name.name != DESCRIPTION:
                sizes[name.parts[0]] = sizes.get(name.parts[0], 0) + size
        return sizes

    def _write_records(self, inherited: Sequence[Fidelity]) -> Fidelity | None:
        """Writes the digests and the fidelity of all blocks as arrays; returns the fidelity of them
        all together.
        """
        self._records.read_ahead()
        records = []
        for block in self.manifest.blocks():
            record = self._records.read(_record(block)) if self.settle(block) else {}
            # Anchors that were damaged and made again may be others: then so are the labels.
            if not record or record.get("anchors") != self.anchors.digest(block.rows):
                raise StoreError(self.path, f"block {block.name} is missing", fix="run the dump again")
            records.append(record)
        self.anchors.put_digests(self.manifest)
        digests = np.array([record["digest"] for record in records], dtype=np.uint64)
        self._group.put("block_digest", digests.reshape(self.manifest.num_views, self.manifest.blocks_per_view))
        measured = [Fidelity.from_dict(record["fidelity"]) for record in records if record["fidelity"]]
        parts = [*inherited, *measured]
        if len(measured) < len(parts) == len(records):
            # An empty one more, so that nobody takes them for one per block, in the order of the
            # blocks.
            parts.append(Fidelity({t: KlTally(0, 0.0, 0.0, {}) for t in parts[0].by_temperature}, 0))
        for name, values in Fidelity.to_arrays(parts).items():
            self._group.put(name, values)
        return Fidelity.merge(parts) if parts else None


def _record(block: Block) -> str:
    return f"{block.view}-{block.rows.start}"
