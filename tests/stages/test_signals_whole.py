"""Every stage in small, from arrays of images and a matrix of entries to the report: a student that
learns independent classes from labels, the teacher's embeddings beside them, or these alone.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_tagged_split
from project import student
from tagged import NAMES, tagged_params
from whole import run_stages

from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader

SKETCH = {"kind": "sketch", "dimensions": 4, "seed": 0, "values": "int8"}


def write_arrays(folder: Path) -> dict[str, Any]:
    """Writes images and entries as files of NumPy, and returns the source that names them."""
    splits = {"train": make_tagged_split(480, unknown=0.1), "test": make_tagged_split(100, seed=2)}
    arrays = {f"{name}_images": split.inputs.numpy() for name, split in splits.items()}
    arrays |= {f"{name}_labels": split.hard_labels.numpy() for name, split in splits.items()}
    np.savez(folder / "images.npz", **arrays)
    return {"kind": "arrays", "path": str(folder / "images.npz"), "classes": list(NAMES)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder after every stage."""
    folder = tmp_path_factory.mktemp("whole")
    params = tagged_params()
    params["prepare"] |= {"source": write_arrays(folder), "val_fraction": 0.2}
    params["encodings"] = {key: params["encodings"][key] for key in ("odds", "none")}
    params["encodings"] |= {"features": {"kind": "vector_int8"}, "sketch": SKETCH}
    fit = params["students"]["small"]["fit"]
    both = student(labels="odds", features="features", loss={"kind": "binary_kd"}, fit=fit)
    alone = both | {"hard_weight": 0.0, "soft_weight": 0.0, "features": "sketch", "feature_loss": {"kind": "rkd"}}
    params["students"] |= {"both": both, "alone": alone}
    run_stages(folder, params)
    return folder


def test_one_pass_of_the_teacher_wrote_stores_of_two_signals(whole: Path) -> None:
    found = {path.stem: StoreReader(path).manifest.signal for path in (whole / "data/dump_labels").glob("*.zarr")}
    assert found == {"odds": "binary", "none": "binary", "features": "vector", "sketch": "vector"}
    verified = json.loads((whole / "reports/verify_labels.json").read_text())
    assert {store["num_blocks"] for name, store in verified["stores"].items()} == {4}  # two views of two blocks
    assert not any(store["faults"] for store in verified["stores"].values())


def test_the_entries_come_through(whole: Path) -> None:
    manifest = ImageDataset(whole / "data/prepare").manifest
    assert (manifest.signal, manifest.class_names) == ("binary", [*NAMES])


def test_students_are_judged_by_mean_average_precision(whole: Path) -> None:
    found = json.loads((whole / "reports/evaluate.json").read_text())["models"]
    assert {*found} == {"teacher", "small", "small_hard", "both", "alone"}
    by_map = {name: row["headline"] for name, row in found.items()}
    assert by_map["teacher"] > 0.8  # chance is about 0.5
    assert min(by_map["small"], by_map["both"]) > 0.65


def test_the_report_and_the_export_are_there(whole: Path) -> None:
    page = (whole / "reports/report.html").read_text()
    assert "mean average precision" in page
    assert (whole / "data/export/small/model.onnx").exists()
    exported = json.loads((whole / "reports/export/small.json").read_text())
    assert exported["files"]["model.onnx"]
