"""Arrays of a store that lie in blocks of rows: labels by view, and anchors."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import torch

from pipeline.core.arrays import ArrayGroup, Index
from pipeline.core.errors import StoreError
from pipeline.labels.encodings import Field
from pipeline.labels.fields import Labels, as_slice, block_digest
from pipeline.labels.manifest import AnchorBlock, Block, Manifest, Part
from pipeline.labels.mirrored import FetchError


class BlockArrays:
    """A reader of arrays in files of `block_samples` rows, which checks each block against its
    digest.

    Args:
        fields: The arrays by name. Their first axis is that of the rows; before it may be that of
            the views, whose place a reader then names.
        digests: Those of the blocks, by view if there is one, and by range of rows; None where
            there is no array.
        fix: What a person can do about a damaged block.
    """

    def __init__(
        self, group: ArrayGroup, fields: Mapping[str, Field], digests: np.ndarray | None, manifest: Manifest, fix: str
    ) -> None:
        self._group, self._fields = group, fields
        self._digests = np.empty(0) if digests is None else digests
        self._manifest, self._fix = manifest, fix

    def read(self, rows: range, *view_index: int) -> Labels:
        """Returns some rows; raises StoreError where a block is missing or damaged, at its URL,
        too.
        """
        try:
            return self._read(rows, *view_index)
        except FetchError:
            raise
        except StoreError:
            if not self._group.is_mirror:
                raise
        for block_rows in self._manifest.ranges():
            if block_rows.start < rows.stop and rows.start < block_rows.stop:
                index: Index = (*view_index, as_slice(block_rows))
                files = dict.fromkeys(self._fields, index)
                self._group.checked(partial(self._read, block_rows, *view_index), files)
        return self._read(rows, *view_index)

    def _read(self, rows: range, *view_index: int) -> Labels:
        arrays: dict[str, np.ndarray] = {}
        for name, field in self._fields.items():
            where, values = f"{self._group.location}/{name}", self._group.read(name, *view_index, as_slice(rows))
            if field.is_unwritten(values):
                raise StoreError(where, f"block {self._lost(name, rows, *view_index)} is missing", fix=self._fix)
            if (wrong := field.above(values)) is not None:
                view = "".join(f" in view {self._manifest.view_numbers[index]}" for index in view_index)
                raise StoreError(where, f"a value of {wrong}{view}", expected=f"at most {field.most}", fix=self._fix)
            arrays[name] = values
        for number, inside in self._whole_blocks(rows) if self._fields else ():
            if block_digest({name: values[inside] for name, values in arrays.items()}) != int(
                self._digests[(*view_index, number)]
            ):
                block = self._block(self._manifest.ranges()[number], *view_index)
                found = f"block {block.name} is not what was written (its digest does not match)"
                raise StoreError(self._group.location, found, fix=self._fix)
        return {name: torch.from_numpy(values) for name, values in arrays.items()}

    def _whole_blocks(self, rows: range) -> Iterator[tuple[int, slice]]:
        """Yields the number of each block that lies wholly in `rows`, and its place there."""
        size = self._manifest.block_samples
        for number in range(-(-rows.start // size), self._manifest.blocks_per_view):
            start, stop = number * size, min((number + 1) * size, self._manifest.num_samples)
            if stop > rows.stop:
                return
            yield number, slice(start - rows.start, stop - rows.start)

    def _lost(self, name: str, rows: range, *view_index: int) -> str:
        for block_rows in self._manifest.ranges():
            if block_rows.start < rows.stop and rows.start < block_rows.stop:
                values = self._group.read(name, *view_index, as_slice(block_rows))
                if self._fields[name].is_unwritten(values):
                    return self._block(block_rows, *view_index).name
        raise AssertionError("a block was missing a moment ago")

    def _block(self, rows: range, *view_index: int) -> Part:
        if not view_index:
            return AnchorBlock(rows)
        return Block(view_index[0], self._manifest.view_numbers[view_index[0]], rows)
