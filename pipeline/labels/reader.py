"""The reader of a soft-label store, format 1 (docs/store-format.md); it replaces blocks, too."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt64

from pipeline.core.arrays import ArrayGroup
from pipeline.core.errors import ConfigError, StoreError
from pipeline.labels.canaries import CANARY_ARRAYS, Canaries, canary_layouts
from pipeline.labels.encodings import Codec, Encoding, build_encoding
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.fields import Labels, arrays_digest, as_slice, beside_labels, block_digest
from pipeline.labels.manifest import FIX, Block, Manifest, parse_manifest
from pipeline.labels.mirrored import FetchError
from pipeline.labels.remote import is_url, open_group
from pipeline.views.plan import RowOrder
from pipeline.views.spec import ViewSpec


class StoreReader:
    """A finished store: labels of whole views, checked as they are read."""

    def __init__(self, place: Path | str) -> None:
        self._group = open_group(place, made_by="dump_labels")
        self.path = self._group.path
        self.location = location = self._group.location
        self._fix = self._group.fix if is_url(location) else FIX
        self.manifest = parse_manifest(self._group.attributes, location, self._fix)
        self.views, self.encoding = self._parts_of_manifest()
        self._fields = self.encoding.fields(self.manifest.space)
        self._tables = self.encoding.tables(self.manifest.space)
        beside = self._read_beside()
        #: The sample that each row belongs to.
        self.sample_ids: UInt64[np.ndarray, " samples"] = beside["sample_id"]
        #: Thumbnails of a few views.
        self.canaries = Canaries(**{name: beside[array] for name, array in CANARY_ARRAYS.items()})
        #: The tables that the encoding learned.
        self.tables = {name: beside[name] for name in self._tables}
        self._digests = beside.get("block_digest")
        self.codec: Codec = self.encoding.codec(self.manifest.space, self.tables)

    @cached_property
    def row_order(self) -> RowOrder:
        """The sample ids in row order, and the block size: a mixed view takes its partner from the
        same block.
        """
        return RowOrder(self.sample_ids, self.manifest.block_samples, self.location)

    @property
    def fidelity_parts(self) -> list[Fidelity]:
        """The fidelity as it was measured, in the parts that it was measured in: block by block,
        for a store that was dumped in one go.
        """
        if not self._fields:
            return []
        return self._group.checked(self._read_fidelity, dict.fromkeys(Fidelity.ARRAYS, ()))

    def _read_fidelity(self) -> list[Fidelity]:
        arrays = {name: self._group.read_whole(name) for name in Fidelity.ARRAYS}
        try:
            return Fidelity.from_arrays(arrays, self.codec_temperatures)
        except (ValueError, TypeError):
            found = "its shape does not fit the others' and the temperatures"
            raise StoreError(f"{self.location}/{Fidelity.ARRAYS[0]}", found, fix=self._fix) from None

    @property
    def codec_temperatures(self) -> list[float]:
        """The declared temperatures that this store can serve."""
        return [t for t in self.manifest.temperatures if self.codec.serves(t)]

    def read_view(self, view_index: int, rows: range | None = None) -> Labels:
        """Returns the fields of a view (of some of its rows); raises StoreError where a block is
        missing or damaged, at its URL, too.
        """
        rows = range(self.manifest.num_samples) if rows is None else rows
        try:
            return self._read_rows(view_index, rows)
        except FetchError:
            raise
        except StoreError:
            if not is_url(self.location):
                raise
        for block in self._blocks_of(view_index, rows):
            files = dict.fromkeys(self._fields, (view_index, as_slice(block.rows)))
            self._group.checked(partial(self._read_rows, view_index, block.rows), files)
        return self._read_rows(view_index, rows)

    def _read_rows(self, view_index: int, rows: range) -> Labels:
        labels = {}
        for name, field in self._fields.items():
            values = self._group.read(name, view_index, as_slice(rows))
            if field.is_unwritten(values):
                lost = self._lost_block(name, view_index, rows)
                raise StoreError(f"{self.location}/{name}", f"block {lost} is missing", fix=self._fix)
            if (wrong := field.above(values)) is not None:
                found = f"a value of {wrong} in view {self.manifest.view_numbers[view_index]}"
                raise StoreError(f"{self.location}/{name}", found, expected=f"at most {field.most}", fix=self._fix)
            labels[name] = values
        self._check_digests(view_index, rows, labels)
        return {name: torch.from_numpy(values) for name, values in labels.items()}

    def _blocks_of(self, view_index: int, rows: range) -> Iterator[Block]:
        """Yields the blocks that hold some rows of a view."""
        size, view = self.manifest.block_samples, self.manifest.view_numbers[view_index]
        for start in range(rows.start // size * size, rows.stop, size):
            yield Block(view_index, view, range(start, min(start + size, self.manifest.num_samples)))

    def decode(self, labels: Labels, temperature: float) -> Float[torch.Tensor, "labels classes"]:
        """Returns log-probabilities of rows of `read_view` at any temperature."""
        return self.codec.decode(labels, temperature)

    def check(self) -> Iterator[tuple[Block, StoreError | None]]:
        """Reads every block; yields each with what is wrong with it, or None."""
        for block in self.manifest.blocks():
            try:
                self.read_view(block.view_index, block.rows)
            except StoreError as error:
                yield block, error
            else:
                yield block, None

    def check_whole(self) -> None:
        """Raises StoreError where something beside the blocks is damaged, or the manifest's figures
        are not the parts'.
        """
        if (self.sample_ids == 0).any():
            raise StoreError(f"{self.location}/sample_id", "an id is 0", expected="ids of images", fix=self._fix)
        self._group.checked(self._check_fidelity, dict.fromkeys(Fidelity.ARRAYS, ()))

    def _check_fidelity(self) -> None:
        parts = self._read_fidelity() if self._fields else []
        if (Fidelity.merge(parts).summary() if parts else None) != self.manifest.fidelity:
            raise StoreError(self.location, "its fidelity is not that of its parts", fix=self._fix)

    def replace_block(self, block: Block, labels: Labels, fidelity: Fidelity) -> bool:
        """Writes a block again; returns whether it is, bit for bit, what was there before, by its
        digest.

        Where it is not, digest, fidelity and manifest follow.
        """
        assert self._digests is not None, "a store without labels has no blocks"
        if self.location != str(self.path):
            raise StoreError(
                self.location, "is not on this machine's disk", expected="a folder", fix="repair it where it lies"
            )
        values = {name: labels[name].cpu().numpy() for name in self._fields}
        number = block.rows.start // self.manifest.block_samples
        group = ArrayGroup.reopen(self.path)
        for name, field_values in values.items():
            group.drop(name, block.view_index, as_slice(block.rows))
            group.write(name, field_values, block.view_index, as_slice(block.rows))
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
        content = replace(self.manifest, fidelity=summary, arrays_digest=arrays_digest(self._beside())).signed()
        group.set_attributes(content)
        self.manifest = Manifest(**content)
        return False

    def _parts_of_manifest(self) -> tuple[ViewSpec, Encoding]:
        """Returns the views and the encoding that the manifest names."""
        try:
            views = ViewSpec.from_dict(self.manifest.views, "views")
            encoding = build_encoding(self.manifest.encoding, "encoding")
            encoding.check(self.manifest.space, "encoding")
        except ConfigError as error:
            raise StoreError(self.location, f"its manifest can't be used ({error})", fix=self._fix) from None
        return views, encoding

    def _read_beside(self) -> dict[str, np.ndarray]:
        """Returns everything except labels and their fidelity, as it was written."""
        names = beside_labels(self._tables, bool(self._fields))
        self._group.checked(self._check_layouts, dict.fromkeys([*names, *self._fields]))

        def read() -> dict[str, np.ndarray]:
            arrays = self._beside()
            self._check_beside(arrays)
            return arrays

        return self._group.checked(read, dict.fromkeys(names, ()))

    def _beside(self) -> dict[str, np.ndarray]:
        return {name: self._group.read_whole(name) for name in beside_labels(self._tables, bool(self._fields))}

    def _check_beside(self, arrays: Mapping[str, np.ndarray]) -> None:
        if arrays_digest(arrays) != self.manifest.arrays_digest:
            found = f"{', '.join(sorted(arrays))} are not what was written with its manifest"
            raise StoreError(self.location, found, fix=self._fix)
        for name, table in self._tables.items():
            if (wrong := table.above(arrays[name])) is not None:
                found = f"a value of {wrong}"
                raise StoreError(f"{self.location}/{name}", found, expected=f"at most {table.most}", fix=self._fix)

    def _check_digests(self, view_index: int, rows: range, labels: Mapping[str, np.ndarray]) -> None:
        """Raises StoreError unless every block that lies wholly in `rows` has the content that was
        written there.
        """
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
                raise StoreError(self.location, found, fix=self._fix)

    def _lost_block(self, name: str, view_index: int, rows: range) -> str:
        for block in self.manifest.blocks():
            if block.view_index == view_index and block.rows.start < rows.stop and rows.start < block.rows.stop:
                values = self._group.read(name, view_index, as_slice(block.rows))
                if self._fields[name].is_unwritten(values):
                    return block.name
        raise AssertionError("a block was missing a moment ago")

    def _check_layouts(self) -> None:
        """Raises StoreError where shape, type or files of an array are not those that follow from
        the manifest.
        """
        manifest = self.manifest
        lead = (manifest.num_views, manifest.num_samples)
        expected = {name: ((*lead, *field.shape), field.dtype) for name, field in self._fields.items()}
        expected |= {name: (table.shape, table.dtype) for name, table in self._tables.items()}
        expected["sample_id"] = ((manifest.num_samples,), np.dtype(np.uint64))
        if self._fields:
            expected["block_digest"] = ((manifest.num_views, manifest.blocks_per_view), np.dtype(np.uint64))
        expected |= canary_layouts(self._group.layout(CANARY_ARRAYS["rendered"]).shape)
        for name, (shape, dtype) in expected.items():
            found, block_rows = self._group.layout(name), manifest.block_samples if name in self._fields else None
            if (found.shape, found.dtype) != (shape, dtype) or not found.in_files_of(block_rows):
                wanted = f"shape {shape} of {dtype} in {'one file' if block_rows is None else f'a file for each {block_rows} rows'}"
                where = f"{self.location}/{name}"
                raise StoreError(where, str(found), expected=f"{wanted} (manifest)", fix=self._fix)
