"""A training step from stored labels, against a hard-label step and an online one.

    python -m benchmarks.step_cost --device cuda

Data, teacher and stores are those that `make repro` left; a store of anchored labels is made beside
them, in work/step_cost. An online step has the teacher in the loop.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import typer
from ruamel.yaml import YAML

from benchmarks.measure import DeviceOption, in_turn, need_data, operations, report
from benchmarks.online import OnlineTask
from benchmarks.photo_labels import anchored
from benchmarks.student_steps import STEPS, endless
from pipeline.core.config import load_params, load_table
from pipeline.core.errors import one_line_errors
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import SplitInMemory
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device, has_room
from pipeline.models.precision import choose_precision
from pipeline.models.saved import read_meta, read_model
from pipeline.student.batches import LabelledBatch
from pipeline.student.labelled_views import LabelledViews, Placement
from pipeline.student.settings import TrainStudent
from pipeline.student.task import StudentTask
from pipeline.training.run import Workplace
from pipeline.training.task import Task
from pipeline.training.trainer import Trainer
from stages import dump_labels

ROUNDS = 25
STORES, OWN_STORES = Path("data/dump_labels"), Path("work/step_cost")


def main(device: DeviceOption = None) -> None:
    need_data()
    where = choose_device(device or "auto")
    data = Data.read(where)
    add_anchored()
    students = {name: row for name, row in load_table(TrainStudent, "students").items() if row.twin_of is None}
    rows: list[dict[str, Any]] = []
    online: list[dict[str, Any]] = []
    for name, row in students.items():
        hard = replace(row, labels="none", hard_weight=1.0, soft_weight=0.0)
        for labels in ("dense8", "dense16", "top2", "anchored"):
            soft = replace(row, labels=labels)
            own, twin = steps(soft, data), steps(hard, data)
            stored, plain, ratio = in_turn(own, twin, ROUNDS)
            rows.append(
                {
                    "student": name,
                    "labels": labels,
                    "distilled ms": milliseconds(stored),
                    "hard ms": milliseconds(plain),
                    "ratio": ratio,
                    "operations": operations(own) / STEPS,
                    "hard operations": operations(twin) / STEPS,
                }
            )
        offline, with_teacher, ratio = in_turn(steps(row, data), steps(row, data, online=True), ROUNDS)
        online.append(
            {
                "student": name,
                "offline ms": milliseconds(offline),
                "online ms": milliseconds(with_teacher),
                "ratio": ratio,
                "speed-up": 1 / ratio,
            }
        )
    n = f"median of {ROUNDS} pairs of {STEPS} steps"
    report("step_cost", f"a distilled step against its hard-label twin's, {n}", rows, where)
    report("offline_online", f"a step from stored labels against one with the teacher in the loop, {n}", online, where)


@dataclass(frozen=True)
class Data:
    """The data that all students train on, and their device.

    The training images lie on the device, too, if they fit.
    """

    train: SplitInMemory
    val: SplitInMemory
    device: torch.device
    resident: SplitInMemory | None

    @classmethod
    def read(cls, device: torch.device) -> "Data":
        dataset = ImageDataset(Path("data/prepare"))
        train = dataset.split("train")
        resident = train.to(device) if has_room(device, train.inputs.nbytes) else None
        return cls(train, dataset.split("val"), device, resident)


def add_anchored() -> None:
    """Makes a store of anchored labels, of the views that anchors are made of alone: the time of a
    step does not depend on how many more there are.
    """
    params, encoding = load_params(), anchored(listed=9, gain=0.04)
    params["dump_labels"]["num_views"] = encoding["anchor_views"]
    params["encodings"] = {"anchored": encoding}
    OWN_STORES.mkdir(parents=True, exist_ok=True)
    path = OWN_STORES / "params.yaml"
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(params, file)
    prepared, teacher = Path("data/prepare"), Path("data/train_teacher")
    dump_labels.main(path, prepared, teacher, OWN_STORES / "labels", OWN_STORES / "work", None, None)


def steps(row: TrainStudent, data: Data, online: bool = False) -> Callable[[], None]:
    """Returns a function that trains for some steps, reading and joining included."""
    device = data.device
    folder = OWN_STORES / "labels" if row.labels == "anchored" else STORES
    store = StoreReader(folder / f"{row.labels}.zarr")
    meta = read_meta(Path("data/train_teacher"), made_by="train_teacher")
    placement = Placement(device, resident=data.resident)
    views = LabelledViews(data.train, store, meta.class_names, row.read_temperature, placement, new_views=row.new_views)
    network = replace(meta, model=row.model, model_settings=row.model_settings)
    task: Task[LabelledBatch] = StudentTask(row, views, data.val, device)
    if online:
        teacher = read_model(Path("data/train_teacher"), made_by="train_teacher").to(device)
        task = OnlineTask(row, task, teacher, device)
    with TemporaryDirectory() as scratch:
        trainer = Trainer(network.build(row.seed), task, row.fit, Workplace(Path(scratch), device, "bench"))
    trainer.model.train()
    trainer.state.precision = choose_precision(row.fit.precision, trainer.model, device)
    return endless(trainer, task, row.fit.epochs, device)


def milliseconds(seconds: float) -> float:
    return 1000 * seconds / STEPS


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
