"""train_student: data/prepare + one store -> data/train_student/<name>. Never loads the teacher."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from pipeline.artifacts import Scratch, file_fingerprint
from pipeline.batches import LabelledBatch, plain_batches
from pipeline.config import PARAMS, STRICT, load_row, load_rows
from pipeline.datasets import ImageDataset, Split
from pipeline.devices import DeviceName, choose_device
from pipeline.distillation import LabelledViews
from pipeline.errors import ConfigError, StoreError, suggest
from pipeline.inference import predict_logits
from pipeline.metrics import classification_metrics
from pipeline.model_files import ModelMeta, write_model
from pipeline.objective import Objective
from pipeline.remote import is_url
from pipeline.store import StoreReader
from pipeline.training import FitSettings, Task, fit, write_reports
from stages import run_stage

EVAL_BATCH_SIZE = 500


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainStudent:
    """A row of the table `students`."""

    model: str
    model_settings: dict[str, Any]
    labels: str
    twin_of: str | None
    hard_weight: NonNegativeFloat
    soft_weight: NonNegativeFloat
    temperature: PositiveFloat
    loss: dict[str, Any]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    seed: NonNegativeInt
    device: DeviceName
    memory_budget_mb: PositiveInt
    group: str | None
    fit: FitSettings


def main(
    name: str = typer.Option(help="The student's row in the table `students`."),
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    labels: str = typer.Option("data/dump_labels", help="The folder of the stores, or its http(s):// or s3:// URL."),
    out: Path = Path("data/train_student"),
    reports: Path = Path("reports/train_student"),
    work: Path = Path("work"),
) -> None:
    settings = load_row(TrainStudent, "students", name, params)
    _check(settings, f"{params}: students.{name}", load_rows("students", params))
    device = choose_device(settings.device)
    dataset = ImageDataset(data)
    manifest = dataset.manifest
    store = _open_store(labels, settings, f"{params}: students.{name}.labels")
    decides = {
        "settings": (recipe := asdict(settings)),
        "data": manifest.fingerprints,
        "store": file_fingerprint(store.path / "zarr.json"),
        "device": device.type,
    }
    with Scratch(out / name, decides, work, [reports / f"{name}.json", reports / f"{name}.tsv"]) as scratch:
        if scratch.done:
            return
        train, val = dataset.split("train"), dataset.split("val")
        temperature = settings.temperature if settings.soft_weight else None
        views = LabelledViews(train, store, manifest.class_names, temperature, device)
        meta = ModelMeta.untrained(settings.model, settings.model_settings, manifest, recipe)
        task = student_task(settings, views, val, device)
        torch.manual_seed(settings.seed)  # of dropout and the like
        result = fit(meta.build(settings.seed), task, settings.fit, scratch.folder, device, f"train_student@{name}")
        history = result.state.history
        figures = {
            "last": history[-1]["val_accuracy"],
            "best": result.state.best_accuracy,
            "best_epoch": result.state.best_epoch + 1,
        }
        meta = meta.trained(result.state.precision, figures)
        write_model(scratch.output, meta, result.last, best=result.best)
        write_reports(reports / name, result, {"val": figures})
        scratch.publish()


def student_task(settings: TrainStudent, views: LabelledViews, val: Split, device: torch.device) -> Task[LabelledBatch]:
    """What a student learns: the store's labels on replayed views, judged by the validation split."""
    objective = Objective(settings.hard_weight, settings.soft_weight, settings.temperature, settings.label_smoothing)
    batch_size = settings.fit.batch_size
    return Task(
        batches=lambda epoch, start: views.batches(epoch, start, batch_size=batch_size, seed=settings.seed),
        steps_per_epoch=views.steps_per_epoch(batch_size),
        loss=lambda model, batch: objective(model, batch, device),
        pixels=lambda batch: batch.images,
        validate=lambda model: classification_metrics(
            predict_logits(model, plain_batches(val, EVAL_BATCH_SIZE), device), val.hard_labels
        ),
    )


def _check(settings: TrainStudent, where: str, table: dict[str, Any]) -> None:
    if "teacher" in table:
        raise ConfigError(where.rsplit(".", 1)[0], "a student is named 'teacher'", expected="any other name")
    if settings.hard_weight == 0 and settings.soft_weight == 0:
        raise ConfigError(where, "hard_weight and soft_weight are both 0", expected="one of them above 0")
    if settings.fit.epochs == 0:
        raise ConfigError(f"{where}.fit.epochs", "0", expected="at least 1")
    if settings.twin_of is not None and settings.twin_of not in table:
        raise ConfigError(f"{where}.twin_of", repr(settings.twin_of), expected=suggest(settings.twin_of, list(table)))


def _open_store(labels: str, settings: TrainStudent, where: str) -> StoreReader:
    if is_url(labels):
        store = StoreReader(f"{labels.rstrip('/')}/{settings.labels}.zarr")
    else:
        path = Path(labels, f"{settings.labels}.zarr")
        if not path.exists():
            there = sorted(p.stem for p in Path(labels).glob("*.zarr"))
            if not there:
                raise StoreError(path, "no such store, nor any other", mend="run `dvc repro dump_labels`")
            raise StoreError(path, "no such store", expected=suggest(settings.labels, there), mend=f"mend {where}")
        store = StoreReader(path)
    if settings.soft_weight:
        if not store.encoding.fields(store.manifest.space):
            found = f"{settings.labels!r} holds no soft labels"
            raise ConfigError(where, found, expected="soft_weight: 0 or another store")
        store.codec.require(settings.temperature)
    return store


if __name__ == "__main__":
    run_stage(main)
