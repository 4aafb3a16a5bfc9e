"""The reader of a soft-label store, format 1 or 2 (docs/store-format.md); replaces blocks, too."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt64

from pipeline.core.arrays import DESCRIPTION, ArrayGroup
from pipeline.core.errors import ConfigError, StoreError
from pipeline.core.remedies import Remedies
from pipeline.data.splits import Split
from pipeline.labels.blocks import BlockArrays
from pipeline.labels.canaries import CANARY_ARRAYS, Canaries, canary_layouts
from pipeline.labels.encodings import Codec, Encoding, Field, build_encoding
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.fields import SAMPLES_ARRAYS, Labels, arrays_digest, as_slice, beside_labels, block_digest
from pipeline.labels.manifest import OF_STAGES, AnchorBlock, Block, Manifest, Part, parse_manifest
from pipeline.labels.mirrored import MirroredGroup
from pipeline.labels.remote import open_group
from pipeline.labels.samples import StoredSamples, keys_layout
from pipeline.views.plan import RowOrder, need_partners
from pipeline.views.spec import ViewSpec


class StoreReader:
    """A finished store: labels of whole views, checked as they are read.

    Args:
        remedies: What to do where it is of no use, for messages.
    """

    def __init__(self, place: Path | str, remedies: Remedies = OF_STAGES) -> None:
        self._group, self.remedies = open_group(place, made_by=remedies), remedies
        self.path = self._group.path
        self.location = location = self._group.location
        self.is_mirror = self._group.is_mirror
        self._fix = self._group.fix if self.is_mirror else remedies.damaged
        self.manifest = parse_manifest(self._group.attributes, location, self._fix, remedies.unfinished)
        self.views, self.encoding = self._parts_of_manifest()
        self._fields = self.encoding.fields(self.manifest.space)
        self._tables = self.encoding.tables(self.manifest.space)
        beside = self._read_beside()
        self._named = beside[SAMPLES_ARRAYS[self.manifest.version]]
        #: What the teacher saw of a few views.
        self.canaries = Canaries(**{name: beside[array] for name, array in CANARY_ARRAYS.items()})
        #: The tables that the encoding learned.
        self.tables = {name: beside[name] for name in self._tables}
        self._digests = {name: array for name, array in beside.items() if name.endswith("_digest")}
        self._labels = self._arrays_in_blocks(self._fields, "block_digest")
        self._anchors = self._arrays_in_blocks(self.encoding.anchors(self.manifest.space), "anchor_digest")
        self.codec: Codec = self.encoding.codec(self.manifest.space, self.tables)

    def _arrays_in_blocks(self, fields: Mapping[str, Field], digest: str) -> BlockArrays:
        return BlockArrays(self._group, fields, self._digests.get(digest), self.manifest, self._fix)

    @cached_property
    def samples(self) -> StoredSamples:
        """The sample that each row belongs to."""
        by_id = self.manifest.version == 1
        return StoredSamples.of(self._named) if by_id else StoredSamples.from_bytes(self._named)

    def find(self, sample_ids: UInt64[np.ndarray, " some"]) -> Int64[np.ndarray, " some"]:
        """Returns the row of each sample, -1 where the store has none."""
        return self.samples.find(StoredSamples.of(sample_ids))

    def rows_in(self, split: Split, rows: slice = slice(None)) -> Int64[np.ndarray, " rows"]:
        """Returns where the samples of some rows stand in a split, -1 where they are not in it."""
        return StoredSamples.of(split.sample_ids).find(self.samples.take(rows))

    def ids_in(self, split: Split) -> UInt64[np.ndarray, " samples"]:
        """Returns the id of each row's sample; 0, which none has, where it is not in the split."""
        rows = self.rows_in(split)
        return np.where(rows >= 0, split.sample_ids[rows], np.uint64(0))

    def row_order(self, split: Split) -> RowOrder | None:
        """Returns the sample ids in row order and the block size, where views are mixed: such a
        view takes its partner from the same block.

        Raises StoreError where one of these samples is not in the split.
        """
        if not self.views.mixes:
            return None
        order = RowOrder(self.ids_in(split), self.manifest.block_samples, self.location, self.remedies.other_data)
        need_partners(split, self.views, order)
        return order

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
            return Fidelity.from_arrays(arrays, self.codec_temperatures, self.manifest.space.signal)
        except (ValueError, TypeError):
            found = "its shape does not fit the others' and the temperatures"
            raise StoreError(f"{self.location}/{Fidelity.ARRAYS[0]}", found, fix=self._fix) from None

    @property
    def codec_temperatures(self) -> list[float]:
        """The declared temperatures that this store can serve."""
        return [t for t in self.manifest.temperatures if self.codec.serves(t)]

    def read_view(self, view_index: int, rows: range | None = None) -> Labels:
        """Returns the labels of a view (of some of its rows), each with its sample's anchor; raises
        StoreError where a block is missing or damaged, at its URL, too.
        """
        rows = range(self.manifest.num_samples) if rows is None else rows
        return self._labels.read(rows, view_index) | self._anchors.read(rows)

    def read_anchors(self, rows: range) -> Labels:
        """Returns the anchors of some rows, none where the store has none; raises as `read_view`
        does.
        """
        return self._anchors.read(rows)

    def decode(self, labels: Labels, temperature: float) -> Float[torch.Tensor, "labels classes *positions"]:
        """Returns log-probabilities of rows of `read_view` at any temperature."""
        return self.codec.decode(labels, temperature)

    def files(self) -> list[str]:
        """Returns the names of all files of the store, each of which is there; raises StoreError
        where one is lost.
        """
        names = [*self._names_beside(), *self.encoding.row_arrays(self.manifest.space)]
        names += Fidelity.ARRAYS if self._fields else ()
        return [DESCRIPTION, *(file for name in names for file in self._group.files(name))]

    def check(self) -> Iterator[tuple[Part, StoreError | None]]:
        """Reads every block, of anchors first; yields each with what is wrong with it, or None."""
        if self.encoding.anchor_views:
            for rows in self.manifest.ranges():
                yield AnchorBlock(rows), _fault(partial(self._anchors.read, rows))
        for block in self.manifest.blocks():
            yield block, _fault(partial(self._labels.read, block.rows, block.view_index))

    def check_whole(self) -> None:
        """Raises StoreError where something beside the blocks is damaged, or the manifest's figures
        are not the parts'.
        """
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
        values = {name: labels[name].cpu().numpy() for name in self._fields}
        self._rewrite(values, block.view_index, as_slice(block.rows))
        place = (block.view_index, self.manifest.ranges().index(block.rows))
        if (digest := block_digest(values)) == int(self._digests["block_digest"][place]):
            return True
        self._digests["block_digest"][place] = digest
        parts = self.fidelity_parts
        if len(parts) == len(self.manifest.blocks()):
            parts[self.manifest.blocks().index(block)] = fidelity
        self._sign("block_digest", parts)
        return False

    def replace_anchors(self, block: AnchorBlock, anchors: Labels) -> bool:
        """Writes a block of anchors again; returns whether it is, bit for bit, what was there
        before.

        Where it is not, the labels that stand on it are deleted first: each must be replaced, too.
        """
        values = {name: anchors[name].cpu().numpy() for name in self.encoding.anchors(self.manifest.space)}
        number = self.manifest.ranges().index(block.rows)
        same = (digest := block_digest(values)) == int(self._digests["anchor_digest"][number])
        if not same:
            for index, name in product(range(self.manifest.num_views), self._fields):
                self._writable().drop(name, index, as_slice(block.rows))
        self._rewrite(values, as_slice(block.rows))
        if not same:
            self._digests["anchor_digest"][number] = digest
            self._sign("anchor_digest", self.fidelity_parts)
        return same

    def _writable(self) -> ArrayGroup:
        if isinstance(self._group, MirroredGroup):
            return self._group.writable()
        return ArrayGroup.reopen(self.path)

    def _rewrite(self, arrays: Mapping[str, np.ndarray], *index: int | slice) -> None:
        group = self._writable()
        for name, values in arrays.items():
            group.drop(name, *index)
            group.write(name, values, *index)

    def _sign(self, changed: str, parts: list[Fidelity]) -> None:
        """Writes digests that have changed, the fidelity, and the manifest that follows from
        them.
        """
        group, summary = self._writable(), self.manifest.fidelity
        group.put(changed, self._digests[changed])
        if len(parts) == len(self.manifest.blocks()):
            for name, array in Fidelity.to_arrays(parts).items():
                group.put(name, array)
            summary = Fidelity.merge(parts).summary()
        content = replace(self.manifest, fidelity=summary, arrays_digest=arrays_digest(self._beside())).signed()
        group.set_attributes(content)
        self.manifest = Manifest(**content)

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
        """Returns everything except labels, anchors and fidelity, as it was written."""
        names = self._names_beside()
        rows = self.encoding.row_arrays(self.manifest.space)
        self._group.checked(self._check_layouts, dict.fromkeys([*names, *rows]))

        def read() -> dict[str, np.ndarray]:
            arrays = self._beside()
            self._check_beside(arrays)
            return arrays

        return self._group.checked(read, dict.fromkeys(names, ()))

    def _beside(self) -> dict[str, np.ndarray]:
        return {name: self._group.read_whole(name) for name in self._names_beside()}

    def _names_beside(self) -> list[str]:
        return beside_labels(self.encoding, self.manifest.space, self.manifest.version)

    def _check_beside(self, arrays: Mapping[str, np.ndarray]) -> None:
        if arrays_digest(arrays) != self.manifest.arrays_digest:
            found = f"{', '.join(sorted(arrays))} are not what was written with its manifest"
            raise StoreError(self.location, found, fix=self._fix)
        for name, table in self._tables.items():
            if (wrong := table.above(arrays[name])) is not None:
                found = f"a value of {wrong}"
                raise StoreError(f"{self.location}/{name}", found, expected=f"at most {table.most}", fix=self._fix)

    def _check_layouts(self) -> None:
        """Raises StoreError where shape, type or files of an array are not those that follow from
        the manifest.
        """
        manifest, space = self.manifest, self.manifest.space
        anchors, lead = self.encoding.anchors(space), (manifest.num_views, manifest.num_samples)
        expected = {name: ((*lead, *field.shape), field.dtype) for name, field in self._fields.items()}
        expected |= {name: ((manifest.num_samples, *field.shape), field.dtype) for name, field in anchors.items()}
        expected |= {name: (table.shape, table.dtype) for name, table in self._tables.items()}
        name = SAMPLES_ARRAYS[manifest.version]
        as_ids, as_keys = ((lead[1],), np.dtype(np.uint64)), keys_layout(lead[1], self._group.layout(name).shape)
        expected[name] = as_ids if manifest.version == 1 else as_keys
        if self._fields:
            expected["block_digest"] = ((manifest.num_views, manifest.blocks_per_view), np.dtype(np.uint64))
        if anchors:
            expected["anchor_digest"] = ((manifest.blocks_per_view,), np.dtype(np.uint64))
        rendered = self._group.layout(CANARY_ARRAYS["rendered"])
        expected |= canary_layouts(rendered.shape, rendered.dtype)
        row_axes = dict.fromkeys(self._fields, 1) | dict.fromkeys(anchors, 0)
        for name, (shape, dtype) in expected.items():
            found, block_rows = self._group.layout(name), manifest.block_samples if name in row_axes else None
            if (found.shape, found.dtype) != (shape, dtype) or not found.in_files_of(block_rows, row_axes.get(name, 1)):
                wanted = f"shape {shape} of {dtype} in {'one file' if block_rows is None else f'a file for each {block_rows} rows'}"
                where = f"{self.location}/{name}"
                raise StoreError(where, str(found), expected=f"{wanted} (manifest)", fix=self._fix)


def _fault(read: Callable[[], Labels]) -> StoreError | None:
    """Returns what is wrong with a block, or None."""
    try:
        read()
    except StoreError as error:
        return error
    return None
