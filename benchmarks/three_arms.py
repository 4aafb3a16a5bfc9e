"""Hard labels, online distillation, and offline distillation by number of views.

The numbers are 1, 4, 16 and that of the epochs.

    python -m benchmarks.three_arms                       # Fashion-MNIST, on what `make repro` left
    CIFAR10_ARCHIVE=... python -m benchmarks.three_arms --cifar10
    CIFAR10_ARCHIVE=... python -m benchmarks.three_arms --resnets --device cuda

The last one teaches ResNet-20 by ResNet-56 on all of CIFAR-10, 200 epochs each, with the weights
and the temperature of knowledge distillation in Tian, Krishnan, Isola, "Contrastive Representation
Distillation", 2020, arXiv 1910.10699.

Every arm trains the same student with the same schedule, order and seeds. Hard labels and online
distillation see a new view in every epoch; offline distillation sees its views in turn. Trained
students are kept in work/three_arms, so that the command can be interrupted and continued; seconds
are those of the run that trained them.
"""

import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import typer

from benchmarks.cifar_teacher import (
    LONG_FIT,
    RESNET,
    RESNET56,
    SMALL,
    Recipe,
    archive_by_environment,
    crops,
    need_archive,
    read_archive,
    trained_teacher,
)
from benchmarks.measure import DeviceOption, need_data, report
from benchmarks.online import OnlineTask, UnvalidatedTask
from pipeline.core.config import load_row, load_section
from pipeline.core.errors import one_line_errors
from pipeline.core.files import read_json, write_json
from pipeline.core.progress import progress, say
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.derive.base import Destination
from pipeline.labelling.derive.subset import Subset
from pipeline.labelling.dump import dump_labels
from pipeline.labelling.settings import DumpLabels
from pipeline.labelling.target import Target
from pipeline.labelling.teacher import Teacher
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.models import Classifier, ClassifierSpec
from pipeline.models.devices import choose_device, has_room
from pipeline.models.precision import inference_precision
from pipeline.models.predict import predict_logits
from pipeline.models.saved import read_model
from pipeline.preparation.statistics import channel_statistics
from pipeline.signals.metrics import accuracy
from pipeline.student.batches import LabelledBatch
from pipeline.student.labelled_views import LabelledViews, Placement
from pipeline.student.settings import TrainStudent
from pipeline.student.task import StudentTask
from pipeline.training.fit import fit
from pipeline.training.run import Workplace
from pipeline.training.task import Task
from pipeline.training.trainer import Trainer
from pipeline.views.spec import ViewSpec

FOLDER = Path("work/three_arms")
ENCODING = {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255}


@dataclass(frozen=True)
class Setting:
    """The settings and data that all arms share."""

    train: SplitInMemory
    test: SplitInMemory
    class_names: list[str]
    teacher: Teacher
    row: TrainStudent
    views: ViewSpec
    folder: Path
    resident: SplitInMemory | None

    @property
    def epochs(self) -> int:
        return self.row.fit.epochs


def main(
    student: str = typer.Option("small", help="A row of the table `students` with both weights above 0."),
    epochs: int | None = typer.Option(None, help="Epochs of each student; by default 20, with --resnets 200."),
    images: int | None = typer.Option(
        None, help="Training images, the first ones; by default 18,000, with --resnets all."
    ),
    seeds: int = 3,
    cifar10: bool = False,
    resnets: bool = typer.Option(False, help="CIFAR-10, ResNet-56 and ResNet-20 instead of `student`."),
    teacher_epochs: int = RESNET56.fit.epochs,
    device: DeviceOption = None,
    params: Path = Path("params.yaml"),
) -> None:
    row = load_row(TrainStudent, "students", student, params)
    views = load_section(DumpLabels, "dump_labels", params).views
    where = choose_device(device or row.device)
    if resnets:
        student, row, views = f"of{teacher_epochs}", _resnet20(row), crops(4, seed=2)
    epochs, images = epochs or (200 if resnets else 20), images or (50_000 if resnets else 18_000)
    row = replace(row, fit=replace(row.fit, epochs=epochs, checkpoint_seconds=60.0))
    data = "resnets" if resnets else "cifar10" if cifar10 else "data"
    folder = FOLDER / f"{data}-{student}-{epochs}-{images}-{where.type}"
    recipe = replace(RESNET56, fit=replace(RESNET56.fit, epochs=teacher_epochs)) if resnets else SMALL
    split, test, class_names, model = _cifar10(recipe, where) if resnets or cifar10 else _prepared(where)
    train = SplitInMemory(split.inputs[:images], split.hard_labels[:images], split.sample_ids[:images])
    resident = train.to(where) if has_room(where, train.inputs.nbytes) else None
    precision = inference_precision(row.fit.precision, "", where)
    setting = Setting(train, test, class_names, Teacher(model, where, 512, precision), row, views, folder, resident)
    dump_seconds = _dump(setting)
    arms = {"hard": None, "online": None, **{f"offline {k}": k for k in (1, 4, 16, epochs) if k <= epochs}}
    results = {arm: [_trained(setting, arm, k, seed) for seed in range(seeds)] for arm, k in arms.items()}
    rows = [_row(setting, arm, k, results, dump_seconds) for arm, k in arms.items()]
    what = f"{student}, {len(train):,} images, {epochs} epochs, {seeds} seeds"
    report(f"three_arms_{data}", f"hard labels, online and offline distillation: {what}", rows, where)


def _prepared(device: torch.device) -> tuple[SplitInMemory, SplitInMemory, list[str], Classifier]:
    """Returns training and test images, the class names and the teacher that `make repro` left."""
    need_data()
    dataset = ImageDataset(Path("data/prepare"))
    model = read_model(Path("data/train_teacher"), made_by="train_teacher").to(device)
    return dataset.split("train"), dataset.split("test"), dataset.manifest.class_names, model


def _cifar10(recipe: Recipe, device: torch.device) -> tuple[SplitInMemory, SplitInMemory, list[str], Classifier]:
    archive = need_archive(archive_by_environment())
    return *read_archive(archive), trained_teacher(archive, recipe, device).to(device)


def _resnet20(row: TrainStudent) -> TrainStudent:
    network: dict[str, Any] = {"model": RESNET, "model_settings": {"depth": 20}}
    return replace(row, **network, fit=LONG_FIT, hard_weight=0.1, soft_weight=0.9, temperature=4.0)


def _dump(setting: Setting) -> float:
    """Writes as many views as epochs into a store, and smaller stores of its first views.

    Returns the seconds a view.
    """
    path, told = setting.folder / "all.zarr", setting.folder / "dump.json"
    if not told.exists():
        split, views = setting.train, setting.views
        manifest = Manifest(
            encoding=ENCODING,
            class_names=setting.class_names,
            view_numbers=list(range(setting.epochs)),
            num_samples=len(split),
            block_samples=min(8192, len(split)),
            temperature=1.0,
            temperatures=[1.0],
            views=views.to_dict(),
            dataset_fingerprint="",
            teacher={"fingerprint": "", "precision": setting.teacher.precision},
        )
        canaries = make_canaries(split, views, manifest.view_numbers, 64)
        start = time.perf_counter()
        writer = StoreWriter(path, setting.folder / "records", manifest, split.sample_ids, canaries)
        with progress("dump", len(split) * setting.epochs, "label") as on_labels:
            shown = setting.resident or split
            dump_labels(setting.teacher, shown, manifest.blocks(), [Target(writer)], on_labels)
        writer.finish()
        write_json(told, {"seconds_per_view": (time.perf_counter() - start) / setting.epochs})
    for count in {1, 4, 16} & set(range(setting.epochs)):
        if not _store(setting, count).exists():
            records = setting.folder / f"records-{count}"
            Subset(StoreReader(path), range(count)).make(Destination(_store(setting, count), records))
    return float(read_json(told, made_by="three_arms")["seconds_per_view"])


def _store(setting: Setting, num_views: int) -> Path:
    return setting.folder / ("all.zarr" if num_views == setting.epochs else f"{num_views}.zarr")


def _trained(setting: Setting, arm: str, num_views: int | None, seed: int) -> dict[str, float]:
    """Returns test accuracy in % and seconds of one run."""
    told = setting.folder / f"{arm.replace(' ', '')}-{seed}.json"
    if not told.exists():
        row, device = replace(setting.row, seed=seed), setting.teacher.device
        store = StoreReader(_store(setting, num_views or setting.epochs))
        if arm == "hard":
            row = replace(row, hard_weight=1.0, soft_weight=0.0)
        offline = arm.startswith("offline")
        data = LabelledViews(
            setting.train,
            store,
            setting.class_names,
            row.read_temperature if offline else None,
            Placement(device, resident=setting.resident),
        )
        # One look at the test split, after the last epoch: nothing is chosen by it.
        task: Task[LabelledBatch] = UnvalidatedTask(StudentTask(row, data, setting.test, device))
        if arm == "online":
            task = OnlineTask(row, task, setting.teacher.model, device)
        model = _student(setting, row).to(device)
        torch.manual_seed(seed)
        workplace = Workplace(setting.folder / told.stem, device, f"{arm}, seed {seed}")
        (result,) = fit([Trainer(model, task, row.fit, workplace)])
        model.load_state_dict(result.last)
        logits = predict_logits(model, setting.test.in_order(500), device)
        accurate = 100 * accuracy(logits, setting.test.hard_labels)
        say(f"three_arms: {arm}, seed {seed}: {accurate:.2f}% in {result.state.seconds:.0f} s")
        write_json(told, {"accuracy": accurate, "seconds": result.state.seconds})
    return dict(read_json(told, made_by="three_arms"))


def _student(setting: Setting, row: TrainStudent) -> Classifier:
    mean, std = channel_statistics(setting.train.inputs.numpy())
    return ClassifierSpec(
        row.model,
        row.model_settings,
        num_classes=len(setting.class_names),
        channels=setting.train.inputs.shape[1],
        mean=mean,
        std=std,
    ).build(row.seed)


def _row(
    setting: Setting,
    arm: str,
    num_views: int | None,
    results: dict[str, list[dict[str, float]]],
    seconds_per_view: float,
) -> dict[str, Any]:
    accuracies = [result["accuracy"] for result in results[arm]]
    seconds = statistics.mean(result["seconds"] for result in results[arm])
    saved = statistics.mean(result["seconds"] for result in results["online"]) - seconds
    dump = (num_views or 0) * seconds_per_view
    forwards = {"hard": 0, "online": setting.epochs * len(setting.train)}.get(
        arm, (num_views or 0) * len(setting.train)
    )
    return {
        "arm": arm,
        "accuracy %": statistics.mean(accuracies),
        "standard deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "against hard": statistics.mean(accuracies) - statistics.mean(r["accuracy"] for r in results["hard"]),
        "seconds a student": seconds,
        "dump s": dump,
        "teacher forwards": f"{forwards:,}{' a student' if arm == 'online' else ''}",
        "store MB": _bytes(_store(setting, num_views)) / 1e6 if num_views else 0.0,
        "pays from (students)": f"{dump / saved:.1f}" if num_views and saved > 0 else "",
    }


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
