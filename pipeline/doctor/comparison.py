"""Short trainings of one student on stores that are to be compared."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pipeline.core.config import load_table
from pipeline.core.errors import ConfigError, suggest
from pipeline.core.seeding import derive_seed, permutation
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import SplitInMemory
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.signals import signal_named
from pipeline.student.data import StudentData
from pipeline.student.labelled_views import Placement
from pipeline.student.settings import TrainStudent
from pipeline.student.task import StudentTask
from pipeline.training.fit import fit
from pipeline.training.run import Workplace
from pipeline.training.start import Start
from pipeline.training.trainer import Trainer


def soft_student(name: str | None, params: Path) -> tuple[str, TrainStudent]:
    """Returns a student that learns from soft labels, by default the first one; raises ConfigError
    where there is none.
    """
    rows = load_table(TrainStudent, "students", params)
    soft = {each: row for each, row in rows.items() if row.soft_weight}
    chosen = name if name is not None else next(iter(soft), None)
    if chosen is None or chosen not in soft:
        found = "none learns from soft labels" if name is None else f"{name!r} is none that learns from soft labels"
        raise ConfigError(f"{params}: students", found, expected=suggest(name or "", list(soft)))
    row = soft[chosen]
    row.check(f"{params}: students.{chosen}", load_table(dict, "students", params))
    return chosen, row


def shortened_row(row: TrainStudent, epochs: int) -> TrainStudent:
    """Returns a row with at most so many epochs; on a processor the clock chooses no precision."""
    few = replace(row.fit, epochs=min(epochs, row.fit.epochs), patience_epochs=None)
    if few.precision == "auto" and choose_device(row.device).type == "cpu":
        few = replace(few, precision="float32")
    return replace(row, fit=replace(few, freeze_epochs=min(few.freeze_epochs, few.epochs)))


def open_part(dataset: ImageDataset, row: TrainStudent, samples: int) -> StudentData:
    """Returns at most so many random samples of the training and of the validation split."""

    def some(name: str) -> SplitInMemory:
        split = dataset.stream(name)
        order = permutation(derive_seed(row.seed, "part"), len(split), 0)
        return split.take(np.sort(order[:samples]))

    return StudentData(
        dataset.folder, dataset.manifest, some("train"), some("val"), Placement(choose_device(row.device))
    )


def train_on_each(
    row: TrainStudent, stores: Mapping[int, StoreReader], data: StudentData, folder: Path, where: str
) -> dict[int, float]:
    """Returns a student's score on the validation split (the headline of the data's signal) after a
    training on each store, from the same weights.

    Where a temperature is still to be chosen, it is the stored one; weights are halves.

    Raises ConfigError or StoreError where it can't learn from a store.
    """
    begin = Start.of(row, data.manifest, folder, where, prepared=data.folder)
    scores, headline = {}, signal_named(data.manifest.signal).headline
    for number, store in stores.items():
        own = row.with_numbers(store.manifest.temperature)
        own.check_labels(store.encoding, store.codec, store.views.mixes_labels, where)
        task = StudentTask(own, data.labelled(store, own), data.val, data.device)
        workplace = Workplace(folder / str(number), data.device, f"student on {number} views", where=where)
        torch.manual_seed(own.seed)
        model = begin.build(own.seed)
        (result,) = fit([Trainer(model, task, own.fit, workplace, begin.head_for(own.fit))])
        scores[number] = result.state.history[-1][f"val_{headline}"]
    return scores
