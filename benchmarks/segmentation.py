"""Distillation of a class at each pixel: which positions a store should hold, and did it pay.

    python -m benchmarks.segmentation         # data and networks by docs/params/segmentation.yaml
    python -m benchmarks.segmentation --seeds 1 --scenes 100 --epochs 1    # a rehearsal

A student learns from stored labels of every pixel, of cells of 4 x 4, of 256 drawn pixels, and from
cells by the channel-wise loss; its twin from hard labels alone. Other encodings of the same labels
are written for their bytes. The pipeline's own stages run in work/segmentation, so that the command
can be killed and started again. Figures are of the test scenes.
"""

from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import torch
import typer

from benchmarks.measure import report
from benchmarks.project import Project, gained, set_epochs, write_params
from pipeline.core.config import load_params
from pipeline.core.errors import one_line_errors
from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.predict import predict_each
from pipeline.models.saved import read_model
from pipeline.signals.grid_metrics import confusion_of, mean_iou

FOLDER, PARAMS = Path("work/segmentation"), Path("docs/params/segmentation.yaml")
_AT_ONCE = 64
_DENSE = {"kind": "dense_uint8", "range_nats": 20.0, "levels": 64}
_TOP = {"kind": "topk", "k": 2, "levels": 64, "range_nats": 20.0, "tail": "rest", "tail_classes": 1}
ENCODINGS: dict[str, dict[str, Any]] = {
    "dense": _DENSE | {"positions": {"stride": 1}},
    "cells": _DENSE | {"positions": {"stride": 4}},
    "drawn": _DENSE | {"positions": {"count": 256, "seed": 0}},
    "float16": {"kind": "dense_float16", "positions": {"stride": 4}},
    "top2": _TOP | {"positions": {"stride": 4}},
    "none": {"kind": "none"},
}
_HALVES = {"hard_weight": 0.5, "soft_weight": 0.5}
ARMS: dict[str, dict[str, Any]] = {
    "twin": {"labels": "none", "hard_weight": 1.0, "soft_weight": 0.0},
    **{name: {"labels": name, **_HALVES} for name in ("dense", "cells", "drawn")},
    "channelwise": {"labels": "cells", "loss": {"kind": "channelwise"}, "hard_weight": 1.0, "soft_weight": 1.0},
}


def params_of(seeds: int, scenes: int | None, epochs: int | None) -> dict[str, Any]:
    """Returns the settings of segmentation with these stores and students."""
    params = load_params(PARAMS)
    own = params["students"]["cells"]
    if scenes is not None:
        params["prepare"]["source"] |= {"train_scenes": scenes, "test_scenes": max(100, scenes // 5)}
    set_epochs(params, epochs)
    rows = {f"{arm}_{seed}": own | row | {"seed": seed} for seed in range(seeds) for arm, row in ARMS.items()}
    return params | {"encodings": ENCODINGS, "students": rows, "exports": []}


def main(
    seeds: int = 3,
    scenes: Annotated[int | None, typer.Option(help="Training scenes; by default those of the params.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of teacher and students; by default those of the params.")] = None,
    raw: Path = Path("data/raw"),
) -> None:
    project, params = Project(FOLDER / str(scenes or "whole")), params_of(seeds, scenes, epochs)
    write_params(params, project.params)
    project.make_teacher(raw)
    project.make_labels()
    for name in params["students"]:
        project.make_student(name)
    found = {name: _miou(project.student(name), project.prepared) for name in params["students"]}
    sizes = {name: StoreReader(project.stores / f"{name}.zarr").manifest for name in ENCODINGS}
    table: list[dict[str, Any]] = [{"network": "teacher", "mIoU": _miou(project.teacher, project.prepared), "seeds": 1}]
    for arm, row in ARMS.items():
        each = [found[f"{arm}_{seed}"] for seed in range(seeds)]
        table.append(
            {
                "network": arm,
                "mIoU": mean(each),
                "seeds": seeds,
                **gained(each, [found[f"twin_{seed}"] for seed in range(seeds)]),
                "bytes per label": sizes[row["labels"]].label_bytes,
            }
        )
    report("segmentation", f"a class at each pixel, {seeds} seeds, test scenes", table)
    lines = [{"store": name, "bytes per label": each.label_bytes} for name, each in sizes.items() if each.fidelity]
    report("segmentation_bytes", "labels of a view of 64 x 64 pixels, 11 classes", lines)


def _miou(folder: Path, prepared: Path) -> float:
    """Returns a network's mean IoU on the test split."""
    dataset, device = ImageDataset(prepared), choose_device("auto")
    test, model = dataset.stream("test"), read_model(folder, made_by="segmentation").to(device)
    parts, start = [], 0
    for outputs in predict_each(model, test.in_order(_AT_ONCE), device):
        parts.append(confusion_of(outputs.cpu(), test.hard_labels[start : start + len(outputs)]))
        start += len(outputs)
    return mean_iou(torch.stack(parts).sum(dim=0))


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
