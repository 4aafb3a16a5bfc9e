"""export: data/train_student/<name> + images -> data/export/<name>: the student in the forms that others run."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import typer
from jaxtyping import Float, UInt8

from pipeline import export
from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_section, read_exports
from pipeline.core.errors import ConfigError, suggest
from pipeline.core.files import write_bytes, write_json
from pipeline.core.progress import progress, say
from pipeline.core.scratch import Scratch
from pipeline.data.dataset import ImageDataset
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.export.settings import Export
from pipeline.models import Classifier
from pipeline.models.predict import predict_logits
from pipeline.models.saved import model_fingerprint, read_meta, read_model
from pipeline.profiling.latency import measure_cost
from pipeline.signals.metrics import accuracy

WEIGHTS, FLOAT32, INT8, EXECUTORCH = "model.safetensors", "model.onnx", "model_int8.onnx", "model.pte"
_BATCH_SIZE = 100
_WARMUP = 10

Batches = Iterable[UInt8[torch.Tensor, "_ channels height width"]]
Run = Callable[[Batches], Float[torch.Tensor, "samples classes"]]


def main(
    name: str = typer.Option(help="A student of the list `exports`."),
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    students: Path = Path("data/train_student"),
    out: Path = Path("data/export"),
    reports: Path = Path("reports/export"),
    work: Path = Path("work"),
) -> None:
    settings = load_section(Export, "export", params)
    if name not in (listed := read_exports(params)):
        raise ConfigError(f"{params}: exports", f"no {name!r}", expected=suggest(name, listed))
    libraries = export.library_versions(executorch=settings.executorch)
    example = export.example()
    dataset, made_by = ImageDataset(data), f"train_student@{name}"
    meta = read_meta(students / name, made_by=made_by)
    meta.check_data(dataset.manifest, students / name, made_by)
    model = read_model(students / name, made_by=made_by)
    decides = {
        "settings": asdict(settings),
        "model": model_fingerprint(students / name),
        "meta": asdict(meta),
        "data": dataset.manifest.fingerprints,
        "libraries": libraries,
    }
    with Scratch(out / name, decides, work, [reports / f"{name}.json"], code=Path(__file__)) as scratch:
        if scratch.done:
            return
        _write(scratch.output, model, export.describe(meta), dataset.stream("train"), settings)
        write_bytes(scratch.output / "predict.py", example)
        report = {"name": name} | _measure(scratch.output, model, dataset.stream("test"), settings)
        write_json(reports / f"{name}.json", report)
        scratch.publish()
    _tell(report, settings)


def _write(folder: Path, model: Classifier, about: dict[str, str], train: SplitOnDisk, settings: Export) -> None:
    """The student in every form."""
    rows = torch.linspace(0, len(train) - 1, min(settings.num_calibration_images, len(train))).long()
    images = train.take(rows.numpy()).inputs
    export.write_weights(folder / WEIGHTS, model.state_dict(), about)
    export.write_onnx(folder / FLOAT32, export.trace(model, images[:2]), about)
    export.write_int8(folder / INT8, folder / FLOAT32, images.numpy(), about, reduce_range=settings.reduce_range)
    if settings.executorch:
        export.write_executorch(folder / EXECUTORCH, export.trace(model, images[:1]), about)


def _measure(folder: Path, model: Classifier, test: SplitOnDisk, settings: Export) -> dict[str, Any]:
    """What the files say of the whole test split, beside torch, and what they cost; raises ExportError."""
    runs: dict[str, Run] = {FLOAT32: lambda batches: export.run_onnx(folder / FLOAT32, batches)}
    runs[INT8] = lambda batches: export.run_onnx(folder / INT8, batches)
    if settings.executorch:
        runs[EXECUTORCH] = lambda batches: export.run_executorch(folder / EXECUTORCH, batches)
    torch_logits = predict_logits(model, test.in_order(_BATCH_SIZE), torch.device("cpu"))
    files: dict[str, dict[str, Any]] = {}
    with progress("export: parity and cost", len(runs), "file") as on_file:
        for file, run in runs.items():
            parity = export.compare(run(test.in_order(_BATCH_SIZE)), torch_logits, test.hard_labels)
            if file != INT8:
                parity.require(settings.logit_tolerance, file)
            files[file] = {"bytes": _size(folder / file), **asdict(parity)}
            if file != EXECUTORCH:
                cost = measure_cost("onnx", folder / file, settings.latency_repeats, _WARMUP)
                files[file] |= asdict(cost)
            on_file(1)
    return {
        "num_test": len(test),
        "files": files,
        "torch": {"bytes": _size(folder / WEIGHTS), "accuracy": accuracy(torch_logits, test.hard_labels)},
        "int8_drop_points": 100 * (files[FLOAT32]["accuracy"] - files[INT8]["accuracy"]),
        "int8_size_ratio": files[INT8]["bytes"] / files[FLOAT32]["bytes"],
    }


def _size(path: Path) -> int:
    return path.stat().st_size


def _tell(report: dict[str, Any], settings: Export) -> None:
    name, files, drop = report["name"], report["files"], report["int8_drop_points"]
    told = (f"{file} {row['bytes']:,} bytes, accuracy {row['accuracy']:.2%}" for file, row in files.items())
    say(f"export@{name}: {'; '.join(told)}; torch {report['torch']['accuracy']:.2%}")
    if drop > settings.max_int8_drop_points:
        fix = "more num_calibration_images may help" + ("" if settings.reduce_range else ", or reduce_range: true")
        say(
            f"export@{name}: int8 loses {drop:.2f} points of accuracy, more than {settings.max_int8_drop_points:g}; {fix}"
        )


if __name__ == "__main__":
    run_stage(main)
