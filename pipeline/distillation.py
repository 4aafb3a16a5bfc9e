"""Joins stored labels to the views they belong to."""

from collections.abc import Iterator
from itertools import repeat

import numpy as np
import torch
from jaxtyping import Int64

from pipeline.batches import LabelledBatch, epoch_order, num_steps, training_batches
from pipeline.canaries import check_canaries
from pipeline.datasets import Split, find_samples
from pipeline.errors import StoreError
from pipeline.store import StoreReader, gather
from pipeline.targets import SparseTargets

# Labels are joined and decoded for many batches at once, in pieces of about this many numbers: for ten classes that
# takes a fifth of the time of doing it batch by batch, and it stays within a processor's cache.
_WINDOW_ENTRIES = 1 << 18
_WINDOW_BATCHES = 64
_CPU = torch.device("cpu")


class LabelledViews:
    """A training split with the labels of a store, joined by sample id. Checked before the first batch.

    Raises StoreError where the store is for other data, lacks some of the images, was made of other views, or can't
    serve the temperature.

    Args:
        temperature: Of the soft targets; None: none are read.
        device: Where soft targets are decoded and left; they travel there as they are stored.
    """

    def __init__(
        self,
        split: Split,
        store: StoreReader,
        class_names: list[str],
        temperature: float | None,
        device: torch.device = _CPU,
    ) -> None:
        if store.manifest.class_names != class_names:
            found, expected = _first_difference(store.manifest.class_names, class_names)
            raise StoreError(store.location, found, expected=f"{expected} (data/prepare)", mend=_MEND)
        if temperature is not None:
            store.codec.require(temperature)
        self._split, self._store, self._temperature, self._device = split, store, temperature, device
        self._store_rows = torch.from_numpy(match_rows(split, store))
        check_canaries(store.canaries, split, store.views, store.location)

    def steps_per_epoch(self, batch_size: int) -> int:
        return num_steps(len(self._split), batch_size)

    def batches(self, epoch: int, start_step: int, *, batch_size: int, seed: int) -> Iterator[LabelledBatch]:
        """A shuffled epoch over one view, in turn, with that view's labels (read once, whole)."""
        view_index = epoch % self._store.manifest.num_views
        view = self._store.manifest.view_numbers[view_index]
        targets = self._targets(view_index, epoch_order(len(self._split), epoch, seed), start_step, batch_size)
        views = training_batches(
            self._split,
            self._store.views,
            view=view,
            epoch=epoch,
            batch_size=batch_size,
            seed=seed,
            start_step=start_step,
        )
        for batch, soft_targets in zip(views, targets, strict=False):
            yield LabelledBatch(batch.images, batch.hard_labels, soft_targets)

    def _targets(
        self, view_index: int, order: torch.Tensor, start_step: int, batch_size: int
    ) -> Iterator[torch.Tensor | SparseTargets | None]:
        """Soft targets of one step after the other, without end where there are none."""
        if self._temperature is None:
            yield from repeat(None)
            return
        labels = self._store.read_view(view_index)
        at_once = _WINDOW_ENTRIES // (batch_size * self._store.manifest.num_classes)
        window = batch_size * max(1, min(_WINDOW_BATCHES, at_once))
        # Windows begin at fixed steps, so that a run that was resumed decodes what an uninterrupted one did.
        for start in range(start_step * batch_size // window * window, len(order), window):
            stored = gather(labels, self._store_rows[order[start : start + window]])
            there = {name: values.to(self._device, non_blocking=True) for name, values in stored.items()}
            targets = self._store.codec.targets(there, self._temperature)
            for first in range(
                max(start, start_step * batch_size) - start, min(window, len(order) - start), batch_size
            ):
                yield targets[first : first + batch_size]


def _first_difference(stored: list[str], wanted: list[str]) -> tuple[str, str]:
    if len(stored) != len(wanted):
        return f"labels of {len(stored)} classes", f"{len(wanted)} classes"
    number = next(i for i, pair in enumerate(zip(stored, wanted, strict=True)) if pair[0] != pair[1])
    return f"class {number} is {stored[number]!r}", repr(wanted[number])


def match_rows(split: Split, store: StoreReader) -> Int64[np.ndarray, " samples"]:
    """Which row of the store holds each sample of the split."""
    rows = find_samples(split.sample_ids, store.sample_ids)
    missing = int((rows < 0).sum())
    if missing == len(split):
        found = f"holds labels for other data: none of these {missing} images is in it"
        raise StoreError(store.location, found, mend=_MEND)
    if missing:
        raise StoreError(store.location, f"has no label for {missing} of {len(split)} training images", mend=_MEND)
    return rows


_MEND = "run `dvc repro dump_labels` for this data"
