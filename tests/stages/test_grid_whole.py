"""Every stage in small, from a folder of images and one of masks to the report: students that learn
a class at each position from cells, and from drawn positions.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch.nn.functional as F
from maps import make_maps
from PIL import Image
from project import small_params, student, write_params
from whole import run_stages

from pipeline.core.errors import ConfigError
from pipeline.core.tensors import read_tensors
from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader
from pipeline.signals.grid_metrics import confusion_of, ious, mean_iou
from stages import train_student

NAMES = ["ground", "grey square", "bright square"]
DENSE = {"kind": "dense_uint8", "range_nats": 20.0, "levels": 64}
UNET = {"model": "unet_small", "model_settings": {"widths": [4, 8], "depth": 1, "up": "bilinear"}}
NOT_A_CLASS = 255
WRONG = {"train/005.png", "train/050.png", "train/095.png"}


def write_masks(folder: Path) -> dict[str, Any]:
    """Writes images and masks, some of which are wrong, and returns the source that names them."""
    for name, split in {"train": make_maps(200, seed=1), "test": make_maps(60, seed=2)}.items():
        for part in ("images", "masks"):
            (folder / part / name).mkdir(parents=True)
        for number, (image, mask) in enumerate(zip(split.inputs.numpy(), split.hard_labels.numpy(), strict=True)):
            own = (mask + 1) % 3 if f"{name}/{number:03}.png" in WRONG else mask
            Image.fromarray(image[0]).save(folder / f"images/{name}/{number:03}.png")
            Image.fromarray(np.where(mask < 0, NOT_A_CLASS, own).astype(np.uint8)).save(
                folder / f"masks/{name}/{number:03}.png"
            )
    about = {"path": str(folder / "images"), "masks": str(folder / "masks"), "classes": NAMES, "ignore": NOT_A_CLASS}
    return {"kind": "masks", **about}


def grid_params(folder: Path) -> dict[str, Any]:
    """Returns all of params.yaml for classes at positions, small."""
    params = small_params()
    params["prepare"] |= {"source": write_masks(folder), "val_fraction": 0.2}
    params["encodings"] = {
        "cells": DENSE | {"positions": {"stride": 2}},
        "drawn": DENSE | {"positions": {"count": 16, "seed": 3}},
        "none": {"kind": "none"},
    }
    params["train_teacher"] |= UNET
    fit = params["train_teacher"]["fit"]
    fit |= {"epochs": 6, "batch_size": 16, "learning_rate": 0.02, "checkpoint_seconds": 1e6}
    small = student(labels="cells", fit=fit | {"epochs": 4}, **UNET)
    params["students"] = {
        "small": small,
        "small_hard": small | {"labels": "none", "twin_of": "small", "hard_weight": 1.0, "soft_weight": 0.0},
        "drawn": small | {"labels": "drawn", "hard_weight": 0.0, "soft_weight": 1.0, "temperature": 1.0},
        "channelwise": small | {"loss": {"kind": "channelwise"}, "hard_weight": 1.0},
    }
    return params


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder after every stage."""
    folder = tmp_path_factory.mktemp("whole")
    params = grid_params(folder)
    params["exports"] = ["small"]
    run_stages(folder, params)
    return folder


def test_one_pass_of_the_teacher_wrote_cells_and_drawn_positions(whole: Path) -> None:
    found = {path.stem: StoreReader(path).manifest for path in (whole / "data/dump_labels").glob("*.zarr")}
    assert {name: (each.signal, each.positions) for name, each in found.items()} == dict.fromkeys(
        ("cells", "drawn", "none"), ("grid", (8, 8))
    )
    verified = json.loads((whole / "reports/verify_labels.json").read_text())
    assert not any(store["faults"] for store in verified["stores"].values())


def test_students_are_judged_by_mean_iou(whole: Path) -> None:
    found = json.loads((whole / "reports/evaluate.json").read_text())
    said = read_tensors(whole / "data/evaluate/predictions.safetensors", made_by="")
    maps = ImageDataset(whole / "data/prepare").split("test").hard_labels
    assert {*found["models"]} == {"teacher", "small", "small_hard", "drawn", "channelwise"}
    for name, row in found["models"].items():
        one_hot = F.one_hot(said[f"{name}.predicted"].long(), 3).movedim(3, 1).float()
        confusion = confusion_of(one_hot, maps)
        assert row["headline"] == pytest.approx(mean_iou(confusion))
        assert row["class_iou"] == pytest.approx(ious(confusion).tolist())
        assert row["headline"] > 0.45, name  # chance is about 0.2
    assert found["class_positions"] == [int((maps == number).sum()) for number in range(3)]
    (compared,) = found["comparisons"]
    assert compared["gain_points"]["standard_error"] > 0


def test_a_student_taken_away_gives_maps(whole: Path) -> None:
    exported = json.loads((whole / "reports/export/small.json").read_text())
    assert exported["files"].keys() >= {"model.onnx", "model_int8.onnx"}
    session = onnxruntime.InferenceSession(whole / "data/export/small/model.onnx")
    (outputs,) = session.run(None, {session.get_inputs()[0].name: np.zeros((2, 1, 8, 8), np.uint8)})
    assert outputs.shape == (2, 3, 8, 8)


def test_wrong_maps_are_suspects(whole: Path) -> None:
    samples = [line.split("\t") for line in (whole / "data/prepare/samples.tsv").read_text().splitlines()]
    planted = {key for _, split, _, key in samples if split == "train" and key in WRONG}
    rows = [line.split("\t") for line in (whole / "reports/suspects.tsv").read_text().splitlines()]
    assert rows[0] == ["sample_id", "index", "contradicted", "key"]
    assert {row[3] for row in rows[1:]} == planted != set()
    assert min(float(row[2]) for row in rows[1:]) > 0.5


def test_the_report_shows_images_beside_their_maps(whole: Path) -> None:
    page = (whole / "reports/report.html").read_text()
    for part in ("mean IoU", 'aria-label="map of channelwise"', "are probably wrong", "grey square"):
        assert part in page, part
    shown = json.loads((whole / "data/explain/samples.json").read_text())
    assert {kind for row in shown["samples"] for kind in row["kinds"]} == {
        "probably mislabelled",
        "students disagree",
        "best",
        "median",
        "worst",
    }


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"labels": "drawn", "loss": {"kind": "channelwise"}}, "'channelwise' compares the positions of an image"),
        (
            {"loss": {"kind": "nkd", "standardize": False, "gamma": 1.0}},
            r"'nkd' needs one hard label, .*\(2 x 2\)",
        ),
        ({"loss": {"kind": "binary_kd"}}, "'binary_kd', which learns from binary labels, and these are grid"),
    ],
    ids=["drawn", "cells", "signal"],
)
def test_a_loss_that_does_not_fit_is_a_line(whole: Path, tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    params = small_params() | {"students": {"x": student(**UNET) | {"labels": "cells"} | changes}}
    path, data = write_params(tmp_path, params), whole / "data"
    with pytest.raises(ConfigError, match=line) as caught:
        train_student.main("x", path, data / "prepare", str(data / "dump_labels"), tmp_path, tmp_path, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 500
