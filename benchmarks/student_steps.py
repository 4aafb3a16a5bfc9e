"""Some training steps of a student of a project: reading, joining and decoding included."""

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.measure import synchronize
from benchmarks.online import OnlineTask
from benchmarks.project import Project
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.saved import read_model
from pipeline.student.data import StudentData
from pipeline.student.feature_losses import build_feature_loss
from pipeline.student.projected import Projected
from pipeline.student.settings import TrainStudent
from pipeline.student.task import StudentTask
from pipeline.training.run import Workplace
from pipeline.training.start import Start
from pipeline.training.trainer import Trainer

STEPS = 10
_MEGABYTES = 2048


def steps(
    project: Project, row: TrainStudent, folder: Path, *, device: str = "auto", online: bool = False
) -> Callable[[], None]:
    """Returns a function that trains for `STEPS` steps.

    Args:
        folder: Is for this student's training alone.
        online: Whether the teacher labels each batch in the loop.
    """
    folder.mkdir(parents=True)
    where, names = choose_device(device), (row.labels, row.features)
    stores = [StoreReader(project.stores / f"{name}.zarr") for name in names if name is not None]
    # 1. The batches. Who has the teacher in the loop reads no soft labels.
    data = StudentData.open(ImageDataset(project.prepared), _budget(row), where, stores)
    read = replace(row, soft_weight=0.0, hard_weight=1.0) if online else row
    views = data.labelled(stores[0], read, stores[1] if row.features else None)
    task: Any = StudentTask(row, views, data.val, where)
    if online:
        teacher = read_model(project.teacher, made_by="train_teacher").to(where)
        task = OnlineTask(row, task, teacher, where, views.signal)
    # 2. The network.
    start = Start.of(row, data.manifest, folder, "students", prepared=data.folder)
    model: nn.Module = start.build(row.seed)
    if row.features is not None:
        loss, of = build_feature_loss(row.feature_loss, "features"), stores[1]
        dimensions = of.encoding.num_values(of.manifest.space) if loss.projects else None
        embedded = start.meta.embedded(start.build(row.seed), start.folder)
        model = Projected(embedded, start.meta.blank(), dimensions, row.seed)
    # 3. The training, whose epochs do not end.
    trainer = Trainer(model, task, replace(row.fit, epochs=1_000_000), Workplace(folder, where, "bench"))
    trainer.begin_epoch()
    return endless(trainer, task, row.fit.epochs, where)


def endless(trainer: Trainer[Any], task: Any, epochs: int, device: torch.device) -> Callable[[], None]:
    """Returns a function that trains for `STEPS` more steps, through the batches of some epochs
    again and again.
    """
    batches = (batch for epoch in cycle(range(epochs)) for batch in task.batches(epoch, 0))

    def train_some() -> None:
        for _ in range(STEPS):
            trainer.step(next(batches))
            trainer.state.step %= task.steps_per_epoch
        synchronize(device)

    return train_some


def _budget(row: TrainStudent) -> MemoryBudget:
    return MemoryBudget.of_megabytes(_MEGABYTES, row.fit.batch_size, "a benchmark")
