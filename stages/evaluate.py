"""evaluate: teacher, students and twins on the test split -> data/evaluate, reports/evaluate.json, metrics.json, plots.

`data/evaluate/predictions.safetensors` has what network N says of each test image, in the split's order: `N.predicted`,
`N.confidence` and `N.hard_prob` (the probabilities of that class and of the hard label), `N.kl_to_teacher` (nats).
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_rows, load_section
from pipeline.core.errors import ModelError
from pipeline.core.files import read_json, write_bytes, write_json, write_tensors
from pipeline.core.progress import progress, say
from pipeline.data.dataset import DatasetManifest, ImageDataset
from pipeline.evaluation.breakdown import class_counts, confusions
from pipeline.evaluation.exam import Exam, answers, describe, figures, measure_costs
from pipeline.evaluation.settings import Evaluate
from pipeline.evaluation.twins import compare
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.saved import read_meta, read_model
from pipeline.signals.metrics import accuracy, reliability

TEACHER = "teacher"  # which no student is called
_IMPORTED = "imported logits"  # the teacher of the stores that import_labels makes


def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    students: Path = Path("data/train_student"),
    labels: Path = Path("data/dump_labels"),
    reports: Path = Path("reports"),
    out: Path = Path("data/evaluate"),
) -> None:
    settings = load_section(Evaluate, "evaluate", params)
    manifests = {path: StoreReader(path).manifest for path in sorted(labels.glob("*.zarr"))}
    folders = {name: students / name for name in load_rows("students", params)}
    if not _runs_elsewhere(teacher, manifests):
        folders = {TEACHER: teacher, **folders}
    dataset = ImageDataset(data)
    test = dataset.stream("test")
    exam = Exam(test, settings.robustness, settings.batch_size, choose_device(settings.device))
    rows, says, bins = _examine(exam, folders, reports, dataset.manifest)
    _pair_twins(rows)
    with progress("evaluate: latency and memory", len(folders), "network") as on_networks:
        for name, cost in measure_costs(folders, settings.latency_repeats, on_networks).items():
            rows[name]["cost"] = cost
    correct = {name: said["predicted"] == test.hard_labels for name, said in says.items()}
    tensors = {f"{name}.{what}": values for name, said in says.items() for what, values in said.items()}
    write_tensors(out / "predictions.safetensors", tensors)
    class_names = dataset.manifest.class_names
    content = {
        "num_test": len(test),
        "class_names": class_names,
        "class_counts": class_counts(test.hard_labels, len(class_names)),
        "models": rows,
        "comparisons": [asdict(comparison) for comparison in compare(rows, correct)],
        "robustness": {"severity": settings.robustness.severity, "num_images": exam.num_corrupted},
        "stores": {path.stem: _describe_store(path, manifest) for path, manifest in manifests.items()},
    }
    write_json(reports / "evaluate.json", content)
    (reports / "export").mkdir(exist_ok=True)  # which `report` depends on, for DVC, even where nothing is exported
    write_json(reports / "metrics.json", _headline(rows))
    _write_table(reports / "plots/reliability.tsv", bins)
    _write_table(reports / "plots/accuracy_against_size.tsv", [_size(name, row) for name, row in rows.items()])
    confused = [
        {"name": name, "actual": class_names[actual], "predicted": class_names[predicted], "count": count}
        for name, said in says.items()
        for actual, predicted, count in confusions(said["predicted"], test.hard_labels)
    ]
    _write_table(reports / "plots/confusion.tsv", confused)
    best = max(rows, key=lambda name: (rows[name]["role"] == "student", rows[name]["accuracy"]))
    say(f"evaluate: {len(rows)} networks on {len(test):,} test images, {best} {rows[best]['accuracy']:.2%}")


def _runs_elsewhere(teacher: Path, manifests: Mapping[Path, Manifest]) -> bool:
    """Whether there is no network of the teacher, because its logits were imported."""
    named = {manifest.teacher["model"] for manifest in manifests.values() if manifest.teacher}
    return named == {_IMPORTED} and not (teacher / "meta.json").exists()


def _examine(
    exam: Exam, folders: Mapping[str, Path], reports: Path, data: DatasetManifest
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, torch.Tensor]], list[dict[str, Any]]]:
    """Of every network its row of the report, what it says of the images, and its confidence's bins."""
    rows, says, bins = {}, {}, []
    teacher_logits, hard_labels = None, exam.test.hard_labels
    total = sum(exam.num_seen(is_student=name != TEACHER) for name in folders)
    with progress("evaluate", total, "image") as on_images:
        for name, folder in folders.items():
            made_by = "train_teacher" if name == TEACHER else f"train_student@{name}"
            meta, model = read_meta(folder, made_by=made_by), read_model(folder, made_by=made_by)
            meta.check_data(data, folder, made_by)
            report = reports / ("train_teacher.json" if name == TEACHER else f"train_student/{name}.json")
            row = describe(folder, meta, model)
            row["train_seconds"] = read_json(report, made_by=made_by).get("seconds")
            logits = exam.logits(model.to(exam.device), on_images)
            if not logits.isfinite().all():
                raise ModelError(folder, "its outputs are not finite numbers", fix=f"run `dvc repro {made_by}`")
            row |= figures(logits, hard_labels, teacher_logits)
            row["corruptions"] = exam.corrupted(model, logits, on_images)
            says[name] = answers(logits, hard_labels, teacher_logits)
            bins += [{"name": name, **asdict(b)} for b in reliability(logits, hard_labels)]
            if name == TEACHER:
                teacher_logits = logits
                row |= {"role": TEACHER, "val": meta.val}
            else:
                best = read_model(folder, made_by=made_by, weights="best").to(exam.device)
                row["accuracy_best"] = accuracy(exam.logits(best, on_images), hard_labels)
            rows[name] = row
    return rows, says, bins


def _pair_twins(rows: dict[str, dict[str, Any]]) -> None:
    """Gives every student that has a twin (the first, of several) that twin's name and the difference of their accuracies,
    in points."""
    for name, row in rows.items():
        if row.get("twin_of") in rows and "twin" not in rows[row["twin_of"]]:
            student = rows[row["twin_of"]]
            student["twin"] = name
            student["gain_points"] = 100 * (student["accuracy"] - row["accuracy"])


def _describe_store(path: Path, manifest: Manifest) -> dict[str, Any]:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {
        "encoding": manifest.encoding,
        "temperature": manifest.temperature,
        "num_views": manifest.num_views,
        "num_samples": manifest.num_samples,
        "num_labels": manifest.num_labels,
        "size_bytes": size,
        "label_bytes": manifest.label_bytes,
        "fidelity": manifest.fidelity,
    }


def _headline(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What `dvc metrics` shows: few numbers, so that a comparison fits a terminal."""
    return {
        "accuracy": {name: round(row["accuracy"], 5) for name, row in rows.items()},
        "gain_points": {name: round(row["gain_points"], 3) for name, row in rows.items() if "gain_points" in row},
        "ece": {name: round(row["ece"], 5) for name, row in rows.items()},
    }


def _size(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """A line of the plot of accuracy against what a network takes; the latency is of one thread."""
    latency = row["cost"]["latency_ms"]["one"]["p50"]
    shown = {key: row[key] for key in ("role", "parameters", "accuracy", "train_seconds")}
    return {"name": name, **shown, "latency_ms": latency}


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = ["\t".join(rows[0]), *("\t".join(str(value) for value in row.values()) for row in rows)]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    run_stage(main)
