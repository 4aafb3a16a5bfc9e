"""The soft-label store, format 1 (docs/store-format.md): writer and reader.

A block is one view of one range of samples: one file per field, written whole by one owner. A block counts as written
when its record stands beside the store; records hold the block's digest and fidelity and go into the store when it is
finished.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt64

from pipeline.arrays import ArrayGroup
from pipeline.artifacts import write_bytes, write_json
from pipeline.batches import RowOrder
from pipeline.canaries import Canaries
from pipeline.encodings import Codec, Encoding, build_encoding, log_normalise
from pipeline.errors import StoreError
from pipeline.fidelity import Fidelity, KlTally
from pipeline.manifest import MEND, Block, Manifest, parse_manifest
from pipeline.views import ViewSpec

_PIECE_ENTRIES = 1 << 16
Labels = dict[str, Shaped[torch.Tensor, "labels ..."]]
SomeLabels = dict[str, Shaped[torch.Tensor, "some ..."]]  # beside others of another number


class StoreWriter:
    """Writes one store block by block; what is already there is kept, so that a killed writer goes on.

    Several processes may write one store if each block has one owner at a time and the first of them has begun the
    store before the others open it.

    Args:
        tables: What the encoding learned, `Encoding.learn`.
        inherited: Fidelity of labels that are copied into this store with `write_labels`.
    """

    def __init__(
        self,
        path: Path,
        records: Path,
        manifest: Manifest,
        sample_ids: UInt64[np.ndarray, " samples"],
        canaries: Canaries,
        tables: Mapping[str, np.ndarray] | None = None,
        inherited: Sequence[Fidelity] = (),
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.sample_ids = sample_ids
        self._records = records
        self._encoding = build_encoding(manifest.encoding, str(path))
        self._encoding.check(manifest.space, str(path))
        self._fields = self._encoding.fields(manifest.space)
        self.codec: Codec = self._encoding.codec(manifest.space, tables or {})
        self._inherited = inherited
        if (records / "begun.json").exists() and (path / "zarr.json").exists():
            self._group = ArrayGroup.reopen(path)
        else:
            # Also where the store was moved away and its records are left: they must not speak for a new one.
            shutil.rmtree(records, ignore_errors=True)
            self._group = self._begin(canaries, tables or {})

    def _begin(self, canaries: Canaries, tables: Mapping[str, np.ndarray]) -> ArrayGroup:
        group = ArrayGroup.create(self.path, self.manifest.signed())
        group.set_attributes(self.manifest.signed())  # a finished store that stands there is no longer that one
        group.put("sample_id", self.sample_ids)
        for field in fields(canaries):
            group.put(f"canary_{field.name}", getattr(canaries, field.name))
        for name, table in self._encoding.tables(self.manifest.space).items():
            group.put(name, tables[name], fill_value=table.fill_value)
        shape = (self.manifest.num_views, self.manifest.num_samples)
        for name, label_field in self._fields.items():
            group.create_array(
                name,
                (*shape, *label_field.shape),
                label_field.dtype,
                fill_value=label_field.fill_value,
                row_axis=1,
                block_rows=self.manifest.block_samples,
                by_column=label_field.by_column,
            )
        write_json(self._records / "begun.json", {})
        return group

    def has(self, block: Block) -> bool:
        """Whether the block is on disk, whole."""
        return not self._fields or self._record(block).exists()

    def encode(
        self, block: Block, logits: Float[torch.Tensor, "rows classes"], rows: np.ndarray | None = None
    ) -> Labels:
        """Labels from finite teacher logits of a block, or of `rows` of the store within it."""
        ids = self.sample_ids[_slice(block.rows) if rows is None else rows]
        return encode_logits(self.codec, logits, ids, block.view)

    @property
    def row_order(self) -> RowOrder:
        """What mixed views depend on, besides their ViewSpec."""
        return RowOrder(self.sample_ids, self.manifest.block_samples, str(self.path))

    def write(self, block: Block, logits: Float[torch.Tensor, "rows classes"]) -> None:
        """Encodes and commits a block of finite teacher logits, and measures its fidelity."""
        if self._fields:
            labels = self.encode(block, logits)
            self.write_labels(block, labels, measure_labels(self.codec, logits, labels))

    def write_labels(self, block: Block, labels: Labels, fidelity: Fidelity | None) -> None:
        """Commits a block of encoded labels."""
        values = {name: labels[name].cpu().numpy() for name in self._fields}
        for name, field_values in values.items():
            self._group.write(name, field_values, block.view_index, _slice(block.rows))
        record = {"digest": block_digest(values), "fidelity": fidelity.to_dict() if fidelity else None}
        write_bytes(self._record(block), json.dumps(record).encode())  # small, and quickly encoded: no indents

    def finish(self) -> Manifest:
        """Writes digests, fidelity and the manifest with `complete`; raises StoreError while a block is missing."""
        if self._fields:
            self._write_records()
        names = {*self._encoding.tables(self.manifest.space)}
        beside = beside_labels(names, bool(self._fields))
        sizes = {p: p.stat().st_size for p in self.path.rglob("*") if p.is_file() and p.name != "zarr.json"}
        finished = replace(
            self.manifest,
            fidelity=self._fidelity.summary() if self._fields and self._fidelity else None,
            # Of the arrays only: the manifest's own size would depend on this very number.
            label_bytes=round(sum(sizes.values()) / self.manifest.num_labels, 4),
            table_bytes=sum(size for p, size in sizes.items() if p.relative_to(self.path).parts[0] in names),
            arrays_digest=arrays_digest({name: self._group.read_whole(name) for name in beside}),
            complete=True,
        )
        content = finished.signed()
        self._group.set_attributes(content)
        return Manifest(**content)

    def _write_records(self) -> None:
        records = []
        for block in self.manifest.blocks():
            if not self.has(block):
                raise StoreError(self.path, f"block {block.name} is missing", mend="run the dump again")
            records.append(json.loads(self._record(block).read_text()))
        digests = np.array([record["digest"] for record in records], dtype=np.uint64)
        self._group.put("block_digest", digests.reshape(self.manifest.num_views, self.manifest.blocks_per_view))
        measured = [Fidelity.from_dict(record["fidelity"]) for record in records if record["fidelity"]]
        parts = [*self._inherited, *measured]
        if len(measured) < len(parts) == len(records):
            # An empty one more, so that nobody takes them for one per block, in the order of the blocks.
            parts.append(Fidelity({t: KlTally(0, 0.0, 0.0, {}) for t in parts[0].by_temperature}, 0))
        self._fidelity = Fidelity.merge(parts) if parts else None
        for name, values in Fidelity.to_arrays(parts).items():
            self._group.put(name, values)

    def _record(self, block: Block) -> Path:
        return self._records / f"{block.view}-{block.rows.start}.json"


class StoreReader:
    """A finished store: labels of whole views, checked as they are read."""

    def __init__(self, place: Path | str) -> None:
        self._group = ArrayGroup.open(place, made_by="dump_labels")
        self.path = self._group.path
        self.location = location = self._group.location
        self.manifest = parse_manifest(self._group.attributes, location)
        self.views = ViewSpec.from_dict(self.manifest.views, f"{location}: views")
        self.encoding: Encoding = build_encoding(self.manifest.encoding, f"{location}: encoding")
        self._fields = self.encoding.fields(self.manifest.space)
        self._tables = self.encoding.tables(self.manifest.space)
        self._check_shapes()
        beside = self._read_beside()
        self._check_beside(beside)
        #: Which image each row belongs to.
        self.sample_ids: UInt64[np.ndarray, " samples"] = beside["sample_id"]
        #: Thumbnails of a few views.
        self.canaries = Canaries(**{field.name: beside[f"canary_{field.name}"] for field in fields(Canaries)})
        #: What the encoding learned.
        self.tables = {name: beside[name] for name in self._tables}
        self._digests = beside.get("block_digest")
        self.codec: Codec = self.encoding.codec(self.manifest.space, self.tables)

    @property
    def row_order(self) -> RowOrder:
        """What mixed views depend on, besides their ViewSpec."""
        return RowOrder(self.sample_ids, self.manifest.block_samples, self.location)

    @property
    def fidelity_parts(self) -> list[Fidelity]:
        """Fidelity as it was measured, in the parts that it was measured in: block by block, for a store that was
        dumped in one go."""
        if not self._fields:
            return []
        arrays = {name: self._group.read_whole(name) for name in Fidelity.ARRAYS}
        try:
            return Fidelity.from_arrays(arrays, self.codec_temperatures)
        except ValueError:
            found = "its shape does not fit the others' and the temperatures"
            raise StoreError(f"{self.location}/{Fidelity.ARRAYS[0]}", found, mend=MEND) from None

    @property
    def codec_temperatures(self) -> list[float]:
        """The declared temperatures that this store can serve."""
        return [t for t in self.manifest.temperatures if self.codec.serves(t)]

    def read_view(self, view_index: int, rows: range | None = None) -> Labels:
        """The fields of a view (of some of its rows); raises StoreError where a block is missing or damaged."""
        rows = range(self.manifest.num_samples) if rows is None else rows
        labels = {}
        for name, field in self._fields.items():
            values = self._group.read(name, view_index, _slice(rows))
            if field.is_unwritten(values):
                lost = self._lost_block(name, view_index, rows)
                raise StoreError(f"{self.location}/{name}", f"block {lost} is missing", mend=MEND)
            labels[name] = values
        self._check_digests(view_index, rows, labels)
        return {name: torch.from_numpy(values) for name, values in labels.items()}

    def decode(self, labels: Labels, temperature: float) -> Float[torch.Tensor, "labels classes"]:
        """Log-probabilities of rows of `read_view` at a temperature of the caller's choice."""
        return self.codec.decode(labels, temperature)

    def check(self) -> Iterator[tuple[Block, StoreError | None]]:
        """Reads every block; gives each with what is wrong with it, or None."""
        for block in self.manifest.blocks():
            try:
                self.read_view(block.view_index, block.rows)
            except StoreError as error:
                yield block, error
            else:
                yield block, None

    def check_whole(self) -> None:
        """Raises StoreError where something beside the blocks is damaged, or the manifest's figures are not the parts'."""
        if (self.sample_ids == 0).any():
            raise StoreError(f"{self.location}/sample_id", "an id is 0", expected="ids of images", mend=MEND)
        parts = self.fidelity_parts
        if (Fidelity.merge(parts).summary() if parts else None) != self.manifest.fidelity:
            raise StoreError(self.location, "its fidelity is not that of its parts", mend=MEND)

    def replace_block(self, block: Block, labels: Labels, fidelity: Fidelity) -> bool:
        """Writes a block anew; whether it is, bit for bit, what was there before (the digest says).

        Where it is not, digest, fidelity and manifest follow.
        """
        assert self._digests is not None, "a store without labels has no blocks"
        if self.location != str(self.path):
            raise StoreError(
                self.location, "is not on this machine's disk", expected="a folder", mend="repair it where it lies"
            )
        values = {name: labels[name].cpu().numpy() for name in self._fields}
        number = block.rows.start // self.manifest.block_samples
        group = ArrayGroup.reopen(self.path)
        for name, field_values in values.items():
            # A damaged file must go first: zarr reads what is there before it writes.
            shutil.rmtree(self.path / name / "c" / str(block.view_index) / str(number), ignore_errors=True)
            group.write(name, field_values, block.view_index, _slice(block.rows))
        if (digest := block_digest(values)) == int(self._digests[block.view_index, number]):
            return True
        self._digests[block.view_index, number] = digest
        group.put("block_digest", self._digests)
        parts, summary = self.fidelity_parts, self.manifest.fidelity
        if len(parts) == len(self.manifest.blocks()):
            parts[block.view_index * self.manifest.blocks_per_view + number] = fidelity
            for name, array in Fidelity.to_arrays(parts).items():
                group.put(name, array)
            summary = Fidelity.merge(parts).summary()
        content = replace(self.manifest, fidelity=summary, arrays_digest=arrays_digest(self._read_beside())).signed()
        group.set_attributes(content)
        self.manifest = Manifest(**content)
        return False

    def _read_beside(self) -> dict[str, np.ndarray]:
        """Everything but labels and their fidelity."""
        return {name: self._group.read_whole(name) for name in beside_labels(self._tables, bool(self._fields))}

    def _check_beside(self, arrays: Mapping[str, np.ndarray]) -> None:
        if arrays_digest(arrays) != self.manifest.arrays_digest:
            found = f"{', '.join(sorted(arrays))} are not what was written with its manifest"
            raise StoreError(self.location, found, mend=MEND)

    def _check_digests(self, view_index: int, rows: range, labels: Mapping[str, np.ndarray]) -> None:
        """Of every block that lies wholly in `rows`: its content is what was written there, not another block's."""
        if self._digests is None:
            return
        size = self.manifest.block_samples
        for number in range(-(-rows.start // size), self.manifest.blocks_per_view):
            start, stop = number * size, min((number + 1) * size, self.manifest.num_samples)
            if stop > rows.stop:
                return
            inside = slice(start - rows.start, stop - rows.start)
            if block_digest({name: values[inside] for name, values in labels.items()}) != int(
                self._digests[view_index, number]
            ):
                block = Block(view_index, self.manifest.view_numbers[view_index], range(start, stop))
                found = f"block {block.name} is not what was written (its digest does not match)"
                raise StoreError(self.location, found, mend=MEND)

    def _lost_block(self, name: str, view_index: int, rows: range) -> str:
        for block in self.manifest.blocks():
            if block.view_index == view_index and block.rows.start < rows.stop and rows.start < block.rows.stop:
                values = self._group.read(name, view_index, _slice(block.rows))
                if self._fields[name].is_unwritten(values):
                    return block.name
        raise AssertionError("a block was missing a moment ago")

    def _check_shapes(self) -> None:
        shape = (self.manifest.num_views, self.manifest.num_samples)
        expected = {name: (*shape, *field.shape) for name, field in self._fields.items()}
        expected |= {name: table.shape for name, table in self._tables.items()}
        expected["sample_id"] = (self.manifest.num_samples,)
        if self._fields:
            expected["block_digest"] = (self.manifest.num_views, self.manifest.blocks_per_view)
        for name, wanted in expected.items():
            if (found := self._group.shape(name)) != wanted:
                raise StoreError(
                    f"{self.location}/{name}", f"shape {found}", expected=f"{wanted} (manifest)", mend=MEND
                )


def block_digest(labels: Mapping[str, np.ndarray]) -> int:
    """64 bits of a block's content, never 0: BLAKE2b over its fields' bytes (little-endian), fields by name."""
    return int.from_bytes(_digest(labels, 8), "little") or 1


def arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """32 hex digits of the content of what stands beside the labels: a manifest holds them."""
    return _digest(arrays, 16).hex()


def beside_labels(tables: Iterable[str], has_labels: bool) -> list[str]:
    """The arrays that a store has beside labels and their fidelity."""
    canaries = [f"canary_{field.name}" for field in fields(Canaries)]
    return ["sample_id", *canaries, *tables, *(["block_digest"] if has_labels else [])]


def _digest(arrays: Mapping[str, np.ndarray], num_bytes: int) -> bytes:
    digest = hashlib.blake2b(digest_size=num_bytes)
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name], dtype=arrays[name].dtype.newbyteorder("<"))
        digest.update(values.reshape(-1).view(np.uint8).data)
    return digest.digest()


def encode_logits(
    codec: Codec, logits: Float[torch.Tensor, "rows classes"], sample_ids: UInt64[np.ndarray, " rows"], view: int
) -> Labels:
    """Labels of finite logits, on the CPU."""
    parts: list[Labels] = []
    for rows in _pieces(logits):
        log_probs = log_normalise(logits[rows] / codec.space.temperature)
        parts.append({name: values.cpu() for name, values in codec.encode(log_probs, sample_ids[rows], view).items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def measure_labels(codec: Codec, logits: Float[torch.Tensor, "rows classes"], labels: Labels) -> Fidelity:
    """How far labels are from the logits that they were made of, at every declared temperature that can be served."""
    served = [t for t in codec.space.temperatures if codec.serves(t)]
    parts = []
    for rows in _pieces(logits):
        exact = {t: log_normalise(logits[rows].double() / t) for t in served}
        some = {name: values[rows] for name, values in labels.items()}
        parts.append(Fidelity.of(exact, {t: codec.decode(some, t) for t in served}))
    return Fidelity.merge(parts)


def _pieces(logits: torch.Tensor) -> Iterator[slice]:
    """Ranges of rows that fit a processor's cache: with 1000 classes, a block at once takes 6 times as long."""
    size = max(1, _PIECE_ENTRIES // logits.shape[1])
    for start in range(0, len(logits), size):
        yield slice(start, start + size)


def gather(labels: Labels, rows: Iterable[int] | np.ndarray | torch.Tensor) -> SomeLabels:
    """Some rows of labels, in that order."""
    index = torch.as_tensor(np.asarray(rows))
    return {name: values[index] for name, values in labels.items()}


def _slice(rows: range) -> slice:
    return slice(rows.start, rows.stop)
