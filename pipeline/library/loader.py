"""Our own fast batches of views with their soft targets, as a plain iterable."""

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.core.errors import ConfigError, DataError
from pipeline.data.budget import MemoryBudget
from pipeline.library.arguments import need_whole
from pipeline.library.labels import Labels, as_labels
from pipeline.library.own_images import MapStyle
from pipeline.library.samples import join
from pipeline.models.devices import has_room
from pipeline.student.batches import LabelledBatch
from pipeline.training.batches import WHOLE, Share


class LabelledLoader:
    """A shuffled epoch of views with their soft targets, batch by batch: what the stage
    `train_student` trains on, and several times as fast as a DataLoader, in this process alone.

    A batch has `inputs` (uint8), `soft_targets`, `hard_labels` and, where views are mixed of two
    samples, `partner_labels` and `own_shares`. Encodings that keep a few classes give sparse soft
    targets. An epoch has whole batches only. Everything follows from seed and epoch: a run that
    goes on needs no other state.

    Args:
        data: The folder of a prepared data set (`data/prepare`), or a map-style data set of your
            own, as for `label_dataset`: all of its images are read here.
        labels: Those of `open_labels` or `label_dataset`, or a path or URL of them.
        temperature: Of the soft targets; None: the one that labels are stored at.
        seed: Of the order.
        memory_mb: Larger data is streamed from disk, within this budget.

    Raises:
        DataError: There is no prepared data set, or it is damaged.
        StoreError: The labels are for other data, lack some of the samples, or can't serve the
            temperature.
        ConfigError: The budget is too small, or a batch larger than the data set.
    """

    def __init__(
        self,
        data: str | Path | MapStyle,
        labels: Labels | str | Path,
        batch_size: int,
        *,
        temperature: float | None = None,
        seed: int = 0,
        memory_mb: int = 4000,
    ) -> None:
        labels, batch_size = as_labels(labels), need_whole("batch_size", batch_size, 1)
        labels.need_targets(temperature)
        budget = MemoryBudget.of_megabytes(memory_mb, batch_size, "memory_mb")
        self.labels, self.batch_size, self.seed = labels, batch_size, need_whole("seed", seed)
        self._views = join(data, labels, labels.chosen(temperature), budget)
        if batch_size > (count := self._views.num_samples):
            found = f"{batch_size:,}, and there are {count:,} samples"
            raise ConfigError("batch_size", found, expected="no more: an epoch has whole batches only")
        self._share, self._epoch = WHOLE, 0

    def __len__(self) -> int:
        return self._views.steps_per_epoch(self.batch_size)

    def __repr__(self) -> str:
        views, where = self._views, self.labels.location
        counts = f"{views.num_samples:,} samples, {len(self):,} batches of {self.batch_size:,}"
        at = f"temperature {views.temperature:g}, seed {self.seed}, epoch {self._epoch}"
        return f"LabelledLoader({counts}, view {self.labels.view_of(self._epoch)} of {where!r}, {at})"

    def __iter__(self) -> Iterator[LabelledBatch]:
        return self.from_step(0)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order and the view of an epoch: the views of the store are taken in turn."""
        self._epoch = need_whole("set_epoch", epoch)

    def from_step(self, step: int) -> Iterator[LabelledBatch]:
        """Yields the epoch's batches from one on: how a run goes on in the midst of an epoch."""
        batches = self._views.batches(self._epoch, step, batch_size=self.batch_size, seed=self.seed, share=self._share)
        return batches if self._views.device.type == "cpu" else (self._there(batch) for batch in batches)

    def to(self, device: torch.device | str) -> "LabelledLoader":
        """Returns a loader of the same batches on a device: soft targets are decoded there, and
        views rendered there where it is a GPU with room for the images.
        """
        there, views = torch.device(device), copy(self._views)
        views.device = there
        if not views.split.is_streamed and has_room(there, views.split.held_bytes):
            views.resident = views.split.to(there)
        return self._with(_views=views)

    def share_of(self, rank: int, world: int) -> "LabelledLoader":
        """Returns a loader of one process's share of each batch, of several that train one network.

        Args:
            world: The number of processes; `rank` counts them from 0.
        """
        if not 0 <= rank < world <= self.batch_size:
            found = f"rank {rank} of {world} processes, batch_size {self.batch_size}"
            raise DataError("share_of", found, expected="0 <= rank < world <= batch_size")
        return self._with(_share=Share(rank, world))

    def _there(self, batch: LabelledBatch) -> LabelledBatch:
        """Returns a batch with all that is in it on the loader's device."""
        tensors = {name: each for name, each in vars(batch).items() if isinstance(each, torch.Tensor)}
        device = self._views.device
        there: dict[str, Any] = {name: each.to(device, non_blocking=True) for name, each in tensors.items()}
        return replace(batch, **there)

    def _with(self, **changes: object) -> "LabelledLoader":
        other = copy(self)
        vars(other).update(changes)
        return other
