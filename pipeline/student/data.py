"""The data of students that are trained together, opened once."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.manifest import DatasetManifest
from pipeline.data.opening import open_splits
from pipeline.data.splits import Split
from pipeline.labels.join import label_bytes
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import has_room
from pipeline.student.labelled_views import LabelledViews, Placement
from pipeline.student.settings import TrainStudent


@dataclass(frozen=True)
class StudentData:
    """The splits that students learn from and are judged on, and where the training split lies."""

    folder: Path
    manifest: DatasetManifest
    train: Split
    val: Split
    placement: Placement

    @classmethod
    def open(
        cls, dataset: ImageDataset, budget: MemoryBudget, device: torch.device, stores: Iterable[StoreReader]
    ) -> "StudentData":
        """Opens both splits: in memory where they fit, else on disk.

        A GPU with room gets a copy of the training split.

        Args:
            stores: The stores whose soft labels or embeddings are read: a view of each is held
                beside the splits.

        Raises:
            ConfigError: The splits fit in memory, but not with the labels.
        """
        train, val = open_splits(dataset, budget, sum(map(label_bytes, stores)))
        resident = train.to(device) if has_room(device, train.held_bytes) else None
        return cls(dataset.folder, dataset.manifest, train, val, Placement(device, budget, resident))

    @property
    def device(self) -> torch.device:
        """The device that students are trained on."""
        return self.placement.device

    def labelled(self, store: StoreReader, row: TrainStudent, features: StoreReader | None = None) -> LabelledViews:
        """Returns the training split with a store's labels, as a student's row reads them.

        Args:
            features: The store of embeddings, where the row names one.
        """
        classes, temperature = self.manifest.class_names, row.read_temperature
        views = LabelledViews(self.train, store, classes, temperature, self.placement, new_views=row.new_views)
        if features is not None:
            views.learn_features(features)
        return views
