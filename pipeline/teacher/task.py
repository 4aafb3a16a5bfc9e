"""The task of a teacher: the hard labels of views, a new view in each epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from pipeline.core.errors import DataError
from pipeline.data.auto_budget import settle
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.opening import open_splits
from pipeline.data.paging import Paging
from pipeline.data.splits import Split
from pipeline.models.devices import has_room
from pipeline.signals import Signal, signal_named
from pipeline.signals.categorical import CATEGORICAL
from pipeline.teacher.settings import TrainTeacher
from pipeline.training.batches import Batch, num_steps
from pipeline.training.epochs import Epoch
from pipeline.training.hard_labels import class_weights, hard_label_loss
from pipeline.training.run import Workplace
from pipeline.training.task import Task
from pipeline.training.team import ALONE, Team
from pipeline.training.validation import Validation
from pipeline.views.maps import need_maps


@dataclass(frozen=True)
class TeacherData:
    """The splits that a teacher learns from and is judged on: in memory, on the device or on
    disk.
    """

    train: Split
    val: Split
    budget: MemoryBudget
    signal: Signal = CATEGORICAL

    @classmethod
    def open(cls, dataset: ImageDataset, settings: TrainTeacher, place: Workplace) -> "TeacherData":
        """Opens both splits, and leaves out the training samples that have no hard label.

        Raises:
            DataError: No training sample has a hard label.
        """
        where, device = f"{place.where}.memory_budget_mb", place.device
        megabytes = place.team.ask_first(lambda: settle(settings.memory_budget_mb, where, place.scratch))
        budget = MemoryBudget.of_megabytes(megabytes, settings.fit.batch_size, where)
        train, val = open_splits(dataset, budget, 0)
        train = train.labelled()
        if len(train) == 0:
            raise DataError(dataset.folder, "no training image has a hard label", expected="some, to learn from")
        train = train.to(device) if has_room(device, train.held_bytes) else train
        return cls(train, val, budget, signal_named(dataset.manifest.signal))

    @property
    def paging(self) -> Paging:
        """The way that an epoch takes through the training split.

        Raises ConfigError where the budget is too small for that.
        """
        return self.train.paging(self.budget)


class TeacherTask(Task[Batch]):
    """The hard labels of the training split, with views that are new in each epoch."""

    def __init__(self, settings: TrainTeacher, data: TeacherData, device: torch.device, team: Team = ALONE) -> None:
        self._settings, self._train, self._paging = settings, data.train, data.paging
        self._device, self._share = device, team.share
        self._weight = team.share.weight(min(settings.fit.batch_size, len(data.train)))
        need_maps(settings.views, data.signal.kind, "train_teacher.views")
        self._signal = data.signal
        self._class_weights = class_weights(data.train.hard_labels, settings.class_balance, device, data.signal)
        self._validation = Validation(data.val, data.budget, device, team, data.signal)
        self.steps_per_epoch = num_steps(len(data.train), settings.fit.batch_size)

    def batches(self, epoch: int, start_step: int) -> Iterator[Batch]:
        return Epoch(
            self._train,
            self._settings.views,
            view=epoch,
            number=epoch,
            batch_size=self._settings.fit.batch_size,
            seed=self._settings.seed,
            share=self._share,
            paging=self._paging,
            device=self._device,
        ).batches(start_step)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        logits = model(batch.inputs.to(self._device, non_blocking=True))
        smoothing = self._settings.label_smoothing
        losses = hard_label_loss(logits, batch, smoothing, self._class_weights, self._signal)
        return self._weight * losses.mean()

    def validate(self, model: nn.Module) -> dict[str, float]:
        return self._validation.measure(model)
