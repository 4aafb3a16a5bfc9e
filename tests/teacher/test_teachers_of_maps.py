"""The stage train_teacher, and the doctor's try of networks, where each pixel has a class."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from maps import GRID, make_maps
from project import small_params, write_params
from teachers import run_teacher

from pipeline.core.config import load_section
from pipeline.core.errors import ModelError
from pipeline.data.dataset import ImageDataset
from pipeline.doctor import speed
from pipeline.doctor.findings import Findings
from pipeline.doctor.images import look_at_prepared
from pipeline.doctor.networks import TeacherCheck
from pipeline.labelling.settings import DumpLabels
from pipeline.models.saved import read_meta, read_model
from pipeline.preparation.write import write_dataset
from pipeline.teacher.settings import TrainTeacher

NAMES = ("ground", "grey", "bright")
UNET = {"model": "unet_small", "model_settings": {"widths": [4, 8], "depth": 1, "up": "bilinear"}}
OPERATIONS = [{"kind": "flip_horizontal", "probability": 0.5}, {"kind": "pad_crop", "pad_px": 1}]

#: A network that knows the made-up images, but at every second pixel alone.
COARSE = """
import torch
from torch import nn


class ByBrightness(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("levels", torch.tensor([20, 110, 200]) / 255)

    def forward(self, images):
        return -100 * (images[..., ::2, ::2] - self.levels.view(1, -1, 1, 1)) ** 2


def build(num_classes, channels):
    return ByBrightness()
"""


def project(folder: Path, **teacher: Any) -> Path:
    """Returns a folder with the made-up maps and params for this teacher."""
    params = small_params()
    fit = {"epochs": 3, "batch_size": 16, "learning_rate": 0.02, "ema_decay": 0.5, "precision": "float32"}
    views = params["train_teacher"]["views"] | {"operations": OPERATIONS}
    fit = params["train_teacher"]["fit"] | fit | teacher.get("fit", {})
    params["train_teacher"] |= UNET | {"views": views} | teacher | {"fit": fit}
    write_params(folder, params)
    splits = {"train": make_maps(64), "val": make_maps(60, seed=1), "test": make_maps(8, seed=2)}
    write_dataset(folder / "data/prepare", "made up", NAMES, splits)
    return folder


def imported(folder: Path) -> dict[str, Any]:
    """Returns the settings of a network of a file that is not trained."""
    (folder / "coarse.py").write_text(COARSE)
    torch.save({"levels": torch.tensor([20, 110, 200]) / 255}, folder / "coarse.pt")
    return {
        "model": f"{folder}/coarse.py:build",
        "model_settings": {},
        "weights": f"{folder}/coarse.pt",
        "input": {"mean": [0.0], "std": [1.0]},
        "fit": {"epochs": 0},
    }


@pytest.mark.parametrize("memory_budget_mb", [1000, 1])
def test_a_unet_learns_maps_in_memory_or_from_the_disk(
    tmp_path: Path, memory_budget_mb: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_teacher(project(tmp_path, memory_budget_mb=memory_budget_mb))
    told, meta = capsys.readouterr().err, read_meta(folder, made_by="x")
    assert "train_teacher: epoch 3/3, train loss " in told
    assert f", val mean IoU {meta.val['miou']:.2%}, " in told
    assert meta.signal == "grid"
    assert meta.val["miou"] > 0.35
    assert 0.05 <= meta.val["calibration_temperature"] <= 20
    val = ImageDataset(tmp_path / "data/prepare").split("val")
    with torch.no_grad():
        logits = read_model(folder, made_by="x")(val.inputs)
    assert GRID.score(logits, val.hard_labels) == pytest.approx(meta.val["miou"], abs=1e-6)
    report = json.loads((tmp_path / "reports/train_teacher.json").read_text())
    assert report["val"]["miou"] == meta.val["miou"]


def test_a_file_that_gives_fewer_positions_is_a_teacher(tmp_path: Path) -> None:
    folder = run_teacher(project(tmp_path, **imported(tmp_path)))
    assert read_meta(folder, made_by="x").val["miou"] > 0.5


def test_its_classes_in_another_order_are_found(tmp_path: Path) -> None:
    settings = imported(tmp_path) | {"teacher_classes": ["bright", "grey", "ground"]}
    with pytest.raises(
        ModelError, match=r"accuracy .* on 60 labelled images, but .* set class_map: \{\"ground\": \[0\]"
    ):
        run_teacher(project(tmp_path, **settings))


DOCTOR: dict[str, tuple[dict[str, Any], str]] = {
    "fits": ({}, "ok  params.yaml: train_teacher: unet_small, 695 parameters, 3 outputs at each pixel, one"),
    "a classifier": (
        {"model": "convnet_small", "model_settings": {"width": 4, "depth": 1}},
        "error  params.yaml: train_teacher: model 'convnet_small': gives outputs of shape [1, 3], and the data has",
    ),
    "too many halvings": (
        {"model_settings": {"widths": [2] * 5, "depth": 1, "up": "bilinear"}},
        "error  params.yaml: train_teacher: model 'unet_small': has 5 widths, each at half the size before, and",
    ),
}


@pytest.mark.parametrize("case", DOCTOR)
def test_the_doctor_tells_what_fits(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, told = DOCTOR[case]
    monkeypatch.setattr(speed, "image_seconds", lambda run, most: (run(2), 0.001)[1])
    folder = project(tmp_path, **changes)
    teacher = load_section(TrainTeacher, "train_teacher", folder / "params.yaml")
    dump = replace(load_section(DumpLabels, "dump_labels", folder / "params.yaml"), batch_size=4)
    look = look_at_prepared(ImageDataset(folder / "data/prepare"))
    TeacherCheck(teacher, look, "params.yaml: train_teacher", dump).run(Findings())
    out = " ".join(capsys.readouterr().out.split())
    assert " ".join(told.split()) in out
