"""Rendering of views: images a second by operation, and the share of a student's step.

    python -m benchmarks.view_speed --device cuda

The images lie on the device.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import typer

from benchmarks.measure import DeviceOption, in_turn, need_data, report, synchronize
from pipeline.core.config import load_table
from pipeline.core.errors import one_line_errors
from pipeline.data.dataset import ImageDataset
from pipeline.data.sample_ids import sample_ids
from pipeline.data.splits import SplitInMemory
from pipeline.models.devices import choose_device
from pipeline.models.saved import ModelMeta, read_meta
from pipeline.student.settings import TrainStudent
from pipeline.training.recipe import build_optimizer
from pipeline.views.plan import plan_view
from pipeline.views.spec import ViewSpec

ROUNDS, BATCHES = 15, 10
OPERATIONS: dict[str, list[dict[str, Any]]] = {
    "plain": [],
    "pad_crop": [{"kind": "pad_crop", "pad_px": 4}],
    "flip_horizontal": [{"kind": "flip_horizontal", "probability": 0.5}],
    "pad_crop + flip": [{"kind": "pad_crop", "pad_px": 4}, {"kind": "flip_horizontal", "probability": 0.5}],
    "resized_crop": [{"kind": "resized_crop", "scale": [0.2, 1.0], "ratio": [0.75, 1.3333]}],
    "brightness": [{"kind": "brightness", "strength": 0.4}],
    "contrast": [{"kind": "contrast", "strength": 0.4}],
    "saturation": [{"kind": "saturation", "strength": 0.4}],
    "erasing": [{"kind": "erasing", "probability": 0.5, "scale": [0.02, 0.3], "ratio": [0.3, 3.3], "fill_level": 0}],
    "pad_crop + flip + mixup": [
        {"kind": "pad_crop", "pad_px": 4},
        {"kind": "flip_horizontal", "probability": 0.5},
        {"kind": "mixup", "alpha": 0.2, "probability": 1.0},
    ],
    "pad_crop + flip + cutmix": [
        {"kind": "pad_crop", "pad_px": 4},
        {"kind": "flip_horizontal", "probability": 0.5},
        {"kind": "cutmix", "alpha": 1.0, "probability": 1.0},
    ],
}


def main(device: DeviceOption = None) -> None:
    need_data()
    where = choose_device(device or "auto")
    dataset = ImageDataset(Path("data/prepare"))
    rows = []
    for shape in ((3, 32, 32), (3, 96, 96)):
        split = _random_split(2048, shape).to(where)
        for kind, operations in OPERATIONS.items():
            row = {"images": " x ".join(map(str, shape)), "views": kind, "images/s": _speed(split, operations)}
            rows.append(row)
    report("view_speed", f"views rendered a second, batches of 128, {torch.get_num_threads()} threads", rows, where)
    shares = _shares(dataset.split("train").to(where))
    report("view_share", "rendering pad_crop + flip against a student's step", shares, where)


def _random_split(count: int, shape: tuple[int, int, int]) -> SplitInMemory:
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    return SplitInMemory(torch.from_numpy(images), torch.zeros(count, dtype=torch.int64), sample_ids(images))


def _spec(operations: list[dict[str, Any]]) -> ViewSpec:
    return ViewSpec.from_dict({"seed": 0, "plain_first": False, "operations": operations}, "view_speed")


def _speed(split: SplitInMemory, operations: list[dict[str, Any]]) -> float:
    """Returns images a second, drawing included."""
    fastest = float("inf")
    for view in range(5):
        start = time.perf_counter()
        plan = plan_view(split, _spec(operations), view)
        for first in range(0, len(split), 128):
            plan.render(torch.arange(first, min(first + 128, len(split))))
        synchronize(split.inputs.device)
        fastest = min(fastest, time.perf_counter() - start)
    return len(split) / fastest


def _shares(train: SplitInMemory) -> list[dict[str, Any]]:
    students = load_table(TrainStudent, "students").items()
    return [{"student": name} | _share(train, row) for name, row in students if row.twin_of is None]


def _share(train: SplitInMemory, row: TrainStudent) -> dict[str, Any]:
    device = train.inputs.device
    model = _build(read_meta(Path("data/train_teacher"), made_by="train_teacher"), row).to(device)
    optimizer, size = build_optimizer(model, row.fit), row.fit.batch_size
    images, labels, places = train.inputs[:size], train.hard_labels[:size], torch.randperm(len(train))[:size]
    plan = plan_view(train, _spec(OPERATIONS["pad_crop + flip"]), 0)

    def step() -> None:
        for _ in range(BATCHES):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
        synchronize(device)

    def draw() -> None:
        for _ in range(BATCHES):
            plan.render(places)
        synchronize(device)

    rendered, stepped, ratio = in_turn(draw, step, ROUNDS)
    return {
        "render ms": 1000 * rendered / BATCHES,
        "step ms": 1000 * stepped / BATCHES,
        "share of both": ratio / (1 + ratio),
    }


def _build(meta: ModelMeta, row: TrainStudent) -> torch.nn.Module:
    model: torch.nn.Module = replace(meta, model=row.model, model_settings=row.model_settings).build(row.seed)
    return model.train()


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
