"""Students with the hard labels of a tenth of the images and the teacher's soft labels for all.

The data and the teacher are those that `make repro` left.

    python -m benchmarks.unlabelled

Arms take the same number of steps. Test accuracy after the last epoch; nothing is chosen by it.
"""

import statistics
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import typer

from benchmarks.measure import need_data, report
from benchmarks.online import UnvalidatedTask
from pipeline.core.config import load_row
from pipeline.core.errors import one_line_errors
from pipeline.core.progress import say
from pipeline.data.dataset import ImageDataset
from pipeline.data.hard_labels import UNLABELLED
from pipeline.data.splits import SplitInMemory
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.predict import predict_logits
from pipeline.models.saved import ModelMeta
from pipeline.signals.metrics import accuracy
from pipeline.student.labelled_views import LabelledViews, Placement
from pipeline.student.settings import TrainStudent
from pipeline.student.task import StudentTask
from pipeline.training.fit import fit
from pipeline.training.run import Workplace
from pipeline.training.trainer import Trainer


def main(student: str = "small", share: float = 0.1, seeds: int = 3) -> None:
    need_data()
    dataset = ImageDataset(Path("data/prepare"))
    everything, test = dataset.split("train"), dataset.split("test")
    row = load_row(TrainStudent, "students", student)
    few = _few_labels(everything, share)
    alone = replace(row, hard_weight=1.0, soft_weight=0.0)
    longer = replace(alone, fit=replace(alone.fit, epochs=round(row.fit.epochs / share)))
    arms = {
        f"hard labels of {share:.0%}": (longer, few),
        f"hard labels of {share:.0%}, soft labels of all": (row, few),
        "soft labels of all": (replace(row, hard_weight=0.0, soft_weight=1.0), few),
        "hard labels of all": (alone, everything),
        "hard and soft labels of all": (row, everything),
    }
    rows = []
    for name, (settings, train) in arms.items():
        found = [_train(dataset, replace(settings, seed=seed), train, test) for seed in range(seeds)]
        say(f"unlabelled: {name}: {', '.join(f'{value:.2f}' for value in found)}")
        spread = statistics.stdev(found) if seeds > 1 else None
        rows.append({"learns from": name, "accuracy %": statistics.mean(found), "standard deviation": spread})
    report("unlabelled", f"student {student!r}, {len(few):,} images, {seeds} seeds, as many steps", rows)


def _few_labels(split: SplitInMemory, share: float) -> SplitInMemory:
    """Returns the same images, of which only the first ones are labelled.

    Rows are in an order of their own, not by class.
    """
    hard_labels = split.hard_labels.clone()
    hard_labels[round(share * len(split)) :] = UNLABELLED
    return replace(split, hard_labels=hard_labels)


def _train(dataset: ImageDataset, row: TrainStudent, train: SplitInMemory, test: SplitInMemory) -> float:
    """Returns test accuracy in %."""
    device, manifest = choose_device(row.device), dataset.manifest
    store = StoreReader(Path(f"data/dump_labels/{row.labels}.zarr"))
    views = LabelledViews(train, store, manifest.class_names, row.read_temperature, Placement(device))
    task = UnvalidatedTask(StudentTask(row, views, test, device))
    model = ModelMeta.untrained(row.model, row.model_settings, manifest, {}).build(row.seed).to(device)
    torch.manual_seed(row.seed)
    with TemporaryDirectory() as scratch:
        workplace = Workplace(Path(scratch), device, f"seed {row.seed}")
        (result,) = fit([Trainer(model, task, row.fit, workplace)])
    model.load_state_dict(result.last)
    return 100 * accuracy(predict_logits(model, test.in_order(500), device), test.hard_labels)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
