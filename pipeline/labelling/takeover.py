"""Labels of a store that another store takes over: a new dump, or one that is made from others."""

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int64

from pipeline.core.errors import StoreError
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.fields import Labels, SomeLabels, gather
from pipeline.labels.manifest import Block
from pipeline.labels.reader import StoreReader
from pipeline.labels.samples import StoredSamples

_FEW_BLOCKS = 4  # of another store, which are read for a block instead of a whole view


class EarlierStore:
    """A store whose labels another one takes over, found by sample and view number. Holds what
    it read last, a view or, where rows come range by range, a part of one.
    """

    def __init__(self, store: StoreReader, samples: StoredSamples) -> None:
        self.store = store
        self.rows: Int64[np.ndarray, " samples"] = store.samples.find(samples)
        self._view: int | None = None
        self._held = range(0)
        self._labels: Labels = {}

    def has_view(self, view: int) -> bool:
        return view in self.store.manifest.view_numbers

    def has_some(self, block: Block) -> bool:
        """Returns whether a label of a block of the new store is here."""
        return self.has_view(block.view) and bool((self.rows[block.rows.start : block.rows.stop] >= 0).any())

    def labels(self, view: int, rows: Int64[np.ndarray, " labels"]) -> Labels:
        """Returns labels of a view, by row of this store."""
        wanted = self._around(rows)
        if view != self._view or wanted.start < self._held.start or wanted.stop > self._held.stop:
            self._labels = {}
            index = self.store.manifest.view_numbers.index(view)
            self._labels, self._view, self._held = self.store.read_view(index, wanted), view, wanted
        return gather(self._labels, rows - self._held.start)

    def anchors(self, rows: Int64[np.ndarray, " rows"]) -> Labels:
        """Returns the anchors of some samples, by row of this store."""
        wanted = self._around(rows)
        return gather(self.store.read_anchors(wanted), rows - wanted.start)

    def _around(self, rows: Int64[np.ndarray, " labels"]) -> range:
        """Returns the rows of the blocks that hold some rows where these are few, else all rows."""
        count, size = self.store.manifest.num_samples, self.store.manifest.block_samples
        if len(rows) == 0:
            return range(self._held.start, self._held.start)
        first, last = int(rows.min()) // size * size, (int(rows.max()) // size + 1) * size
        return range(first, min(last, count)) if last - first <= _FEW_BLOCKS * size else range(count)

    def block_fidelity(self, block: Block) -> Fidelity | None:
        """Returns the fidelity of a block of the new store; None unless it is a block of this one,
        too.
        """
        number = self._number(block)
        return None if number is None else self._parts[number]

    def other_fidelity(self, views: Iterable[int], known: Iterable[Block]) -> list[Fidelity]:
        """Returns the fidelity of the labels of some views, without the `block_fidelity` of some
        blocks.
        """
        if not self._by_block:
            return self._parts
        used, wanted = {self._number(block) for block in known}, set(views)
        pairs = enumerate(zip(self._parts, self.store.manifest.blocks(), strict=True))
        return [part for number, (part, block) in pairs if number not in used and block.view in wanted]

    @cached_property
    def _parts(self) -> list[Fidelity]:
        return self.store.fidelity_parts

    @property
    def _by_block(self) -> bool:
        return len(self._parts) == len(self.store.manifest.blocks())

    def _number(self, block: Block) -> int | None:
        """Returns the number of the block of this store with the same samples in the same order, if
        any.
        """
        manifest, rows = self.store.manifest, self.rows[block.rows.start : block.rows.stop]
        if not (self._by_block and self.has_view(block.view)):
            return None
        first, size = int(rows[0]), manifest.block_samples
        if (
            first < 0
            or first % size
            or not np.array_equal(rows, np.arange(first, min(first + size, manifest.num_samples)))
        ):
            return None
        return manifest.view_numbers.index(block.view) * manifest.blocks_per_view + first // size


def copied_labels(sources: Sequence[EarlierStore], block: Block) -> Labels:
    """Returns a block's labels from the first of several sources that has each."""
    labels: Labels = {}
    wanting = np.arange(block.rows.start, block.rows.stop)
    for source in sources:
        found = wanting[source.rows[wanting] >= 0] if source.has_view(block.view) else wanting[:0]
        if len(found):
            fill_in(labels, len(block.rows), found - block.rows.start, source.labels(block.view, source.rows[found]))
            wanting = np.setdiff1d(wanting, found)
    assert len(wanting) == 0, "some labels are in none of the sources"
    return labels


def copied_anchors(sources: Sequence[EarlierStore], rows: range) -> Labels:
    """Returns the anchors of some rows from the first of several sources that has each; raises
    StoreError where another one has others, which its labels stand on.
    """
    anchors: Labels = {}
    numbers = np.arange(rows.start, rows.stop)
    seen = np.zeros(len(numbers), dtype=bool)
    for source in sources:
        here = source.rows[numbers] >= 0
        if not here.any():
            continue
        own: Labels = {}
        fill_in(own, len(numbers), np.flatnonzero(here), source.anchors(source.rows[numbers[here]]))
        _need_equal(sources[0], source, anchors, own, here & seen)
        fill_in(anchors, len(numbers), np.flatnonzero(here & ~seen), gather(own, np.flatnonzero(here & ~seen)))
        seen |= here
    return anchors


def _need_equal(
    first: EarlierStore, other: EarlierStore, anchors: Labels, own: Labels, both: Bool[np.ndarray, " rows"]
) -> None:
    """Raises StoreError where anchors of the same samples are not the same in two stores."""
    differs = np.zeros(int(both.sum()), dtype=bool)
    for name, values in own.items() if len(differs) else ():
        unlike = values.numpy()[both] != anchors[name].numpy()[both]
        differs |= unlike.reshape(len(differs), -1).any(axis=1)
    if differs.any():
        raise StoreError(
            other.store.location,
            f"anchors of {int(differs.sum())} of {len(differs)} samples are others",
            expected=f"those of {first.store.location}",
            fix=f"dump it with --grow {first.store.path.parent}, which takes anchors over",
        )


def fill_in(labels: Labels, count: int, places: Int64[np.ndarray, " some"], some: SomeLabels) -> None:
    """Puts some labels at their places among `count`, in place."""
    for name, values in some.items():
        if name not in labels:
            labels[name] = torch.empty((count, *values.shape[1:]), dtype=values.dtype)
        labels[name].numpy()[places] = values.numpy()
