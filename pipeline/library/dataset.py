"""A map-style data set of the views that a teacher saw, with its soft targets."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from pipeline.core.errors import DataError
from pipeline.data.budget import MemoryBudget
from pipeline.library.arguments import need_whole
from pipeline.library.items import Item, Items, MixedItem
from pipeline.library.labels import Labels, as_labels
from pipeline.library.own_images import MapStyle
from pipeline.library.samples import OwnSamples, PreparedSamples, Samples, join
from pipeline.views.plan import ViewPlan

Normalise = Callable[[torch.Tensor], torch.Tensor]
_BATCH = 128  # a guess, for the share of memory that batches take


class DistillationDataset(Dataset[Item | MixedItem]):
    """A map-style data set of views, each with its soft targets, hard label and sample id.

    Item i is always of image i; `set_epoch` chooses its view. Nothing in it is random, so that a
    training run that goes on needs the number of its epoch and no more: the order is its sampler's.

    It works in a DataLoader with any number of workers, also those that stay from epoch to epoch.
    Give `collate_fn=potstill.collate` to spare a copy of each batch.

    Args:
        data: The folder of a prepared data set (`data/prepare`), or a map-style data set of your
            own, as for `label_dataset`: its images are read, and looked up, as they are asked for.
        labels: Those of `open_labels` or `label_dataset`, or a path or URL of them.
        temperature: Of the soft targets; None: the one that labels are stored at.
        normalise: Called with a batch of views, uint8 [views, channels, height, width], for what
            the items shall have in their place. It must not move pixels: labels are of the views
            as they are.
        sparse: As for `Labels.targets`.
        memory_mb: Larger data stays on disk and is read as it is asked for. Then a sampler that
            jumps about is slow: `LabelledLoader` is not.

    Raises:
        DataError: There is no prepared data set, or it is damaged.
        StoreError: The labels are for other data, lack some of the samples, or can't serve the
            temperature.
    """

    def __init__(
        self,
        data: str | Path | MapStyle,
        labels: Labels | str | Path,
        *,
        temperature: float | None = None,
        normalise: Normalise | None = None,
        sparse: bool = False,
        memory_mb: int = 4000,
    ) -> None:
        self.labels = labels = as_labels(labels)
        self.normalise, self.sparse, self.temperature = normalise, sparse, labels.chosen(temperature)
        labels.need_targets(temperature, sparse=sparse)
        self._samples: Samples
        if isinstance(data, str | Path):
            budget = MemoryBudget.of_megabytes(memory_mb, _BATCH, "memory_mb")
            self._samples = PreparedSamples(join(data, labels, self.temperature, budget, in_windows=False))
        else:
            self._samples = OwnSamples(data, labels)
        # In memory that processes share: workers that are at work already see a new epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self._samples)

    def __repr__(self) -> str:
        return f"DistillationDataset({len(self):,} samples, view {self.view} of {self.labels.location!r})"

    @property
    def epoch(self) -> int:
        """The number of the epoch, from 0."""
        return int(self._epoch)

    @property
    def view(self) -> int:
        """The number of the view that items are of."""
        return self.labels.view_of(self.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the view of an epoch: those of the store are taken in turn.

        Call it before the epoch's loop begins; batches that a worker has made already keep theirs.
        """
        self._epoch.fill_(need_whole("set_epoch", epoch))

    def __getitem__(self, index: int) -> Item | MixedItem:
        item: Item | MixedItem = self.__getitems__([index])[0]
        return item

    def __getitems__(self, indices: Sequence[int]) -> Items:
        """Returns several items, made together; DataLoader asks for a batch so."""
        places = range(len(self))
        rows = np.array([places[index] for index in indices], dtype=np.int64)
        return Items(self._batch(self._samples.plan(rows, view := self.view), view))

    def _batch(self, plan: ViewPlan, view: int) -> Item | MixedItem:
        ids = plan.split.sample_ids[plan.rows.numpy()]
        targets = self.labels.targets(ids, view, self.temperature, sparse=self.sparse)
        own = (plan.labels(_ALL), torch.from_numpy(ids.view(np.int64)))
        views = self._views(plan)
        partners, shares = plan.partner_labels(_ALL), plan.own_shares(_ALL)
        if partners is None or shares is None:
            return Item(views, targets, *own)
        return MixedItem(views, targets, *own, partners, shares)

    def _views(self, plan: ViewPlan) -> torch.Tensor:
        views = plan.render(_ALL)
        if self.normalise is None:
            return views
        made: Any = self.normalise(views)
        if not isinstance(made, torch.Tensor) or len(made) != len(views):
            found = f"returned {list(made.shape) if isinstance(made, torch.Tensor) else type(made).__name__}"
            raise DataError("normalise", found, expected=f"a tensor of {len(views)} views")
        return made


_ALL = slice(None)
