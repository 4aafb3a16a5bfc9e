"""docs/params/medicine.yaml in small, on radiographs that are made here: grey files of 16 bits of
which 12 are used, a column for each of three findings, one of them in 3 of 100 images.
"""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from whole import run_stages

from pipeline.core.closure import TOP
from pipeline.core.config import load_params
from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader

COUNTS = {"train": 200, "val": 70, "test": 70}
FINDINGS = ["effusion", "nodule", "hernia"]
SHARES = [0.5, 0.2, 0.03]
PLACES = [(0, 0), (0, 12), (12, 6)]  # each finding is a bright square of its own
LARGEST = 4095


def write_radiographs(folder: Path) -> None:
    """Writes images and their table; every 20th entry of a training image is unknown."""
    rng, rows = np.random.default_rng(0), []
    (folder / "files").mkdir(parents=True)
    for split, count in COUNTS.items():
        present = np.stack([rng.permutation(count) < round(share * count) for share in SHARES], axis=1)
        for number, found in enumerate(present):
            pixels = rng.integers(0, 1600, (20, 20))
            for (top, left), there in zip(PLACES, found, strict=True):
                pixels[top : top + 8, left : left + 8] += 2200 * int(there)
            pixels[19, 19] = LARGEST
            name = f"files/{split}{number:03}.png"
            Image.fromarray(pixels.astype(np.uint16)).save(folder / name)
            told = ["" if split == "train" and rng.random() < 0.05 else str(int(there)) for there in found]
            rows.append([name, split, *told])
    with (folder / "chest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "split", *FINDINGS], *rows])


def small(params: dict[str, Any], table: Path) -> dict[str, Any]:
    """Returns the params file for these files, with short trainings of a student and its twin."""
    params["prepare"]["source"]["path"] = str(table)
    params["prepare"]["image_px"] = [20, 20]
    params["train_teacher"] |= {"model": "convnet_small", "model_settings": {"width": 8, "depth": 1}}
    params["train_teacher"]["fit"]["epochs"] = 12
    params["dump_labels"] |= {"num_views": 3, "device": "cpu"}
    params["students"] = {name: params["students"][name] for name in ("tiny", "tiny_hard")}
    defaults = params["students_defaults"]
    params["students"] = {
        name: defaults | row | {"model_settings": {"width": 4, "depth": 1}, "fit": defaults["fit"] | {"epochs": 4}}
        for name, row in params["students"].items()
    }
    params["exports"] = []
    params["explain"] |= {"num_suspects": 4, "num_disagreed": 4, "num_attributed": 2, "num_views": 2, "patch_steps": 3}
    return params


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder after every stage."""
    folder = tmp_path_factory.mktemp("medicine")
    write_radiographs(folder / "raw")
    run_stages(folder, small(load_params(TOP / "docs/params/medicine.yaml"), folder / "raw/chest.csv"))
    return folder


def test_the_upper_of_the_bits_that_are_used_come_through(whole: Path) -> None:
    data = ImageDataset(whole / "data/prepare")
    assert (data.manifest.signal, data.manifest.class_names) == ("binary", FINDINGS)
    train = data.split("train")
    assert tuple(train.inputs.shape) == (200, 1, 20, 20)
    assert (train.inputs[:, 0, 19, 19] == 255).all()  # of 12 bits: 4095 of 65535 would be 15
    assert 0.02 < (train.hard_labels == -1).float().mean() < 0.08


def test_a_finding_of_3_in_100_counts_as_much_as_one_of_50(whole: Path) -> None:
    found = json.loads((whole / "reports/evaluate.json").read_text())
    assert found["class_counts"] == [35, 14, 2]
    teacher = found["models"]["teacher"]
    by_class = teacher["independent"]["class_precision"]
    assert teacher["headline"] == pytest.approx(np.mean(by_class))
    assert by_class[0] > 0.9
    assert by_class[2] > 0.2  # by chance 0.03
    assert found["comparisons"][0]["student"] == "tiny"


def test_the_report_begins_with_the_mean_over_the_findings(whole: Path) -> None:
    header = next(line for line in (whole / "reports/table.txt").read_text().splitlines() if "network" in line)
    columns = header.split()
    assert columns.index("mAP") < columns.index("F1") < columns.index("agreement")
    assert "hernia" in (whole / "reports/report.html").read_text()
    assert StoreReader(whole / "data/dump_labels/odds8.zarr").manifest.num_views == 3
