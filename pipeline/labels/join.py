"""The join of a split with a store by sample id, and the labels that are in memory at a time."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int64

from pipeline.core.errors import ConfigError, StoreError
from pipeline.data.budget import MemoryBudget
from pipeline.data.input_kinds import IMAGE
from pipeline.data.paging import Paging
from pipeline.data.splits import Split
from pipeline.data.windows import Columns
from pipeline.labels.entries import Samples
from pipeline.labels.fields import Labels, SomeLabels, gather
from pipeline.labels.reader import StoreReader
from pipeline.labels.samples import StoredSamples


class JoinedStore:
    """A split and a store for it, joined by sample id.

    Raises StoreError where the store is for other data or lacks some of the samples; ConfigError
    where the budget is too small to stream the split.

    Args:
        budget: What a split on disk is read by.
    """

    def __init__(self, split: Split, store: StoreReader, budget: MemoryBudget | None) -> None:
        self.split, self.store, self.budget = split, store, budget
        need_same_content(split, store)
        same = store.samples.same(StoredSamples.of(split.sample_ids))
        self._rows = None if same else torch.from_numpy(match_rows(split, store))
        self.paging = self._paging()

    def _paging(self) -> Paging:
        """Returns how an epoch goes through the split. Where views are mixed, pages are blocks of
        the store: a sample's partner is in its block, and so in its window.
        """
        mixes = self.store.views.mixes
        if self.split.is_streamed and mixes and self._rows is not None:
            found = "its views are mixed of two samples, and its rows are in another order than the data's"
            fix = "raise memory_budget_mb until inputs fit in memory"
            raise StoreError(self.store.location, found, expected="the data's order, to be streamed", fix=fix)
        return self.split.paging(self.budget, self.store.manifest.block_samples if mixes else None)

    @property
    def in_page_order(self) -> bool:
        """Whether the rows of each page stand side by side in the store, too."""
        if self._rows is None:
            return True
        breaks = np.flatnonzero(np.diff(self._rows.numpy()) != 1) + 1
        return not (breaks % self.paging.page_rows).any()

    def rows(self, rows: Int64[torch.Tensor, " some"]) -> Int64[torch.Tensor, " some"]:
        """Returns the rows of the store for some rows of the split."""
        return rows if self._rows is None else self._rows[rows]

    def page(self, page: range) -> range:
        """Returns the rows of the store for a page of the split."""
        first = page.start if self._rows is None else int(self._rows[page.start])
        return range(first, first + len(page))


def need_same_content(split: Split, store: StoreReader) -> None:
    """Raises StoreError where a store is for samples of another kind than the split's, or for ones
    whose numbers mean something else.
    """
    here, there = Samples(split.content.kind.name, split.content.detail), store.manifest.samples
    if here != there:
        fix = store.remedies.other_views
        raise StoreError(store.location, f"its labels are of {there}", expected=f"those of {here}", fix=fix)


def label_bytes(store: StoreReader, count: int | None = None) -> int:
    """Returns the bytes of so many encoded labels in memory, with their samples' anchors; by
    default those of a view.
    """
    fields = store.encoding.row_arrays(store.manifest.space).values()
    return (store.manifest.num_samples if count is None else count) * sum(
        math.prod(field.shape) * field.dtype.itemsize for field in fields
    )


class ViewLabels:
    """The encoded labels of one view of a store: held whole, or read window by window."""

    def __init__(self, joined: JoinedStore, view_index: int, *, held: bool) -> None:
        self._joined, self._view_index = joined, view_index
        self._whole: Labels | None = joined.store.read_view(view_index) if held else None

    def read(self, page: range) -> Columns:
        """Returns the columns that a window needs of a page, besides what is held."""
        if self._whole is not None:
            return {}
        labels = self._joined.store.read_view(self._view_index, self._joined.page(page))
        return {self._column(field): values.numpy() for field, values in labels.items()}

    def of(
        self, rows: Int64[np.ndarray, " held"], columns: Columns, places: Int64[torch.Tensor, " some"]
    ) -> SomeLabels:
        """Returns the labels of some places in a window of these rows and columns."""
        if self._whole is not None:
            return gather(self._whole, self._joined.rows(torch.from_numpy(rows)[places]))
        fields = self._joined.store.encoding.row_arrays(self._joined.store.manifest.space)
        return gather({field: torch.from_numpy(columns[self._column(field)]) for field in fields}, places)

    def _column(self, field: str) -> str:
        return f"{self._joined.store.location}/{field}"


def read_labels(stores: Mapping[str, JoinedStore], view_index: int) -> dict[str, ViewLabels]:
    """Returns a view's labels of several stores for one split, within the share of the budget that
    is for labels.
    """
    held = choose_held(list(stores.values()))
    return {
        name: ViewLabels(joined, view_index, held=held[number]) for number, (name, joined) in enumerate(stores.items())
    }


def choose_held(stores: Sequence[JoinedStore]) -> list[bool]:
    """Returns, for each store, whether its labels of a view are held whole.

    All that fit are: that is quickest, and works in any order.

    Raises StoreError where labels neither fit nor are in the split's order, ConfigError where
    windows of them do not fit."""
    if not stores or not stores[0].split.is_streamed:
        return [True] * len(stores)
    split, budget, held = stores[0].split, stores[0].budget, []
    assert budget is not None, "what is streamed has a budget"
    room = budget.share(split.input_bytes)
    least = budget.least(split.input_bytes, sum(label_bytes(joined.store) for joined in stores))
    for joined in stores:
        held.append(label_bytes(joined.store) <= room)
        room -= label_bytes(joined.store, None if held[-1] else 2 * joined.paging.window_rows)
        if not held[-1] and not joined.in_page_order:
            raise StoreError(
                joined.store.location,
                "its rows are in another order than the data's, and a view's labels do not fit in memory",
                expected=f"the data's order, or memory_budget_mb of at least {least}",
                fix="write it in that order: `python -m stages.derive_labels subset --samples`",
            )
        if room < 0:
            found = f"{budget}, too little for the labels of {joined.store.location}"
            raise ConfigError(budget.where, found, expected=f"at least {least}")
    return held


def match_rows(split: Split, store: StoreReader) -> Int64[np.ndarray, " samples"]:
    """Returns the row of the store for each sample of the split; raises StoreError where one has
    none, or where labels are of another form.
    """
    of_maps = split.hard_labels.ndim == 3
    if not store.manifest.is_of_embeddings and of_maps != (store.manifest.positions is not None):
        found = f"holds labels of the signal {store.manifest.signal}, and these samples have "
        found += "a class at each position" if of_maps else "one label each"
        raise StoreError(store.location, found, fix=store.remedies.other_data)
    rows = store.find(split.sample_ids)
    missing = int((rows < 0).sum())
    if missing == len(split):
        found = f"holds labels for other data: none of these {missing} samples is in it"
        at, here = store.manifest.positions, tuple(split.input_shape[1:])
        if at is not None and at != here:
            found += f"; its labels are of {at[0]} x {at[1]} positions, and these images of {here[0]} x {here[1]}"
        channels, given = store.canaries.rendered.shape[1], split.input_shape[0]
        if split.content.kind is IMAGE and channels != given:
            found += f", whose images have {channels} channels, and these {given}"
        raise StoreError(store.location, found, fix=store.remedies.other_data)
    if missing:
        found = f"has no label for {missing} of {len(split)} training samples"
        raise StoreError(store.location, found, fix=store.remedies.other_data)
    return rows
