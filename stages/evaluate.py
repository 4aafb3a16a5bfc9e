"""evaluate: every student, twin and the teacher on the test split -> reports/evaluate.json, metrics.json, plots."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pipeline.artifacts import read_json, say, write_bytes, write_json
from pipeline.batches import plain_batches
from pipeline.config import PARAMS, load_rows, load_section
from pipeline.datasets import ImageDataset, Split
from pipeline.devices import choose_device
from pipeline.inference import predict_logits
from pipeline.metrics import accuracy, agreement, classification_metrics, kl_to_teacher, reliability
from pipeline.model_files import read_meta, read_model
from pipeline.models import count_multiply_adds, count_parameters
from pipeline.progress import progress
from pipeline.sections.evaluate import Evaluate
from pipeline.store import StoreReader
from stages import run_stage


def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    students: Path = Path("data/train_student"),
    labels: Path = Path("data/dump_labels"),
    reports: Path = Path("reports"),
) -> None:
    settings = load_section(Evaluate, "evaluate", params)
    names = list(load_rows("students", params))
    device = choose_device(settings.device)
    dataset = ImageDataset(data)
    test = dataset.split("test")

    def logits_of(folder: Path, made_by: str, weights: str = "weights") -> torch.Tensor:
        model = read_model(folder, made_by=made_by, weights=weights).to(device)
        return predict_logits(model, plain_batches(test, settings.batch_size), device, on_batch=on_images)

    bins: list[dict[str, Any]] = []
    with progress("evaluate", len(test) * (1 + 2 * len(names)), "image") as on_images:
        teacher_logits = logits_of(teacher, "train_teacher")
        seconds = read_json(reports / "train_teacher.json", made_by="train_teacher")["seconds"]
        about = _describe(teacher, "train_teacher", seconds)
        val = read_meta(teacher, made_by="train_teacher").val
        rows = {
            "teacher": {
                **about,
                **classification_metrics(teacher_logits, test.hard_labels),
                "role": "teacher",
                "val": val,
            }
        }
        bins += [{"name": "teacher", **asdict(b)} for b in reliability(teacher_logits, test.hard_labels)]
        for name in names:
            stage = f"train_student@{name}"
            logits = logits_of(students / name, stage)
            best_logits = logits_of(students / name, stage, "best")
            seconds = read_json(reports / f"train_student/{name}.json", made_by=stage)["seconds"]
            about = _describe(students / name, stage, seconds)
            rows[name] = {**about, **_figures(logits, best_logits, teacher_logits, test)}
            bins += [{"name": name, **asdict(b)} for b in reliability(logits, test.hard_labels)]
    _pair_twins(rows)
    stores = {path.stem: _describe_store(path) for path in sorted(labels.glob("*.zarr"))}
    write_json(reports / "evaluate.json", {"models": rows, "stores": stores, "num_test": len(test)})
    write_json(reports / "metrics.json", _headline(rows))
    _write_table(reports / "plots/reliability.tsv", bins)
    sizes = [
        {"name": n, "role": r["role"], "parameters": r["parameters"], "accuracy": r["accuracy"]}
        for n, r in rows.items()
    ]
    _write_table(reports / "plots/accuracy_against_size.tsv", sizes)
    say(f"evaluate: {len(rows)} networks on {len(test):,} test images, teacher {rows['teacher']['accuracy']:.2%}")


def _describe(folder: Path, made_by: str, seconds: float) -> dict[str, Any]:
    meta, model = read_meta(folder, made_by=made_by), read_model(folder, made_by=made_by)
    settings = meta.settings
    return {
        "role": "twin" if settings.get("twin_of") else "student",
        "model": meta.model,
        "model_settings": meta.model_settings,
        "labels": settings.get("labels"),
        "twin_of": settings.get("twin_of"),
        "parameters": count_parameters(model),
        "multiply_adds": count_multiply_adds(model, meta.image_shape),
        "train_seconds": seconds,
        "settings": settings,
    }


def _figures(
    logits: torch.Tensor, best_logits: torch.Tensor, teacher_logits: torch.Tensor, test: Split
) -> dict[str, float]:
    return {
        **classification_metrics(logits, test.hard_labels),
        "accuracy_best": accuracy(best_logits, test.hard_labels),
        "agreement": agreement(logits, teacher_logits),
        "kl_to_teacher": kl_to_teacher(logits, teacher_logits),
    }


def _pair_twins(rows: dict[str, dict[str, Any]]) -> None:
    """Gives every student that has a twin that twin's name and the difference of their accuracies, in points."""
    for name, row in rows.items():
        if row.get("twin_of") in rows:
            student = rows[row["twin_of"]]
            student["twin"] = name
            student["gain_points"] = 100 * (student["accuracy"] - row["accuracy"])


def _describe_store(path: Path) -> dict[str, Any]:
    manifest = StoreReader(path).manifest
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {
        "encoding": manifest.encoding,
        "num_views": manifest.num_views,
        "num_samples": manifest.num_samples,
        "size_bytes": size,
        "label_bytes": manifest.label_bytes,
        "fidelity": manifest.fidelity,
    }


def _headline(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What `dvc metrics` shows: few numbers, so that a comparison fits a terminal."""
    return {
        "accuracy": {name: round(row["accuracy"], 5) for name, row in rows.items()},
        "gain_points": {name: round(row["gain_points"], 3) for name, row in rows.items() if "gain_points" in row},
    }


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = ["\t".join(rows[0]), *("\t".join(str(value) for value in row.values()) for row in rows)]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    run_stage(main)
