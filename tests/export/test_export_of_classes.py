"""The stage export for independent classes: parity and losses in their own figures, and an example
that prints each class.
"""

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from project import write_params
from tagged import NAMES, linked_copy, tagged_params

from pipeline.core.config import load_section
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import SplitInMemory
from pipeline.export.measure import summary
from pipeline.export.onnx_file import run_onnx
from pipeline.export.settings import Export
from pipeline.models.saved import read_model
from pipeline.results.export import ExportReport
from pipeline.results.files import read_result
from pipeline.signals.binary_metrics import mean_average_precision
from stages import export as stage


def run_export(folder: Path, **changes: Any) -> None:
    params, at = tagged_params(), folder / "data"
    params["export"] |= changes
    places = at / "prepare", at / "train_student", at / "export", folder / "reports/export"
    stage.main("small", write_params(folder, params), *places, folder / "work", str(at / "dump_labels"))


@pytest.fixture(scope="module")
def exported(tagged_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = linked_copy(tagged_project, tmp_path_factory.mktemp("export") / "project")
    run_export(folder, int8="aware")
    return folder


@pytest.fixture
def test_split(exported: Path) -> SplitInMemory:
    return ImageDataset(exported / "data/prepare").split("test")


def test_figures_are_those_of_entries(exported: Path, test_split: SplitInMemory) -> None:
    report = json.loads((exported / "reports/export/small.json").read_text())
    model, entries = read_model(exported / "data/train_student/small", made_by=""), test_split.hard_labels
    with torch.no_grad():
        exact = model(test_split.inputs).double()
    p = exact.sigmoid()
    assert list(report["files"]) == ["model.onnx", "model_int8.onnx", "model_int8_aware.onnx"]
    for file, row in report["files"].items():
        found = run_onnx(exported / "data/export/small" / file, [test_split.inputs]).double()
        q = found.sigmoid()
        kl = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(1).mean().item()
        assert row["accuracy"] == pytest.approx(((found > 0) == (entries == 1)).double().mean().item())
        assert row["headline"] == pytest.approx(mean_average_precision(found, entries))
        assert row["top1_agreement"] == pytest.approx(((found > 0) == (exact > 0)).double().mean().item())
        assert row["kl_to_torch"] == pytest.approx(kl, rel=1e-2, abs=1e-7)
    assert report["torch"]["headline"] == pytest.approx(mean_average_precision(exact, entries))
    int8, float32 = report["files"]["model_int8.onnx"], report["files"]["model.onnx"]
    assert report["int8_drop_points"] == pytest.approx(100 * (float32["headline"] - int8["headline"]))
    assert report["headline_words"] == "mean average precision"
    assert 0.9 < report["aware"]["agreement"] <= 1


def test_what_int8_loses_is_told_in_points_of_mean_average_precision(exported: Path) -> None:
    report = read_result(ExportReport, exported / "reports/export/small.json", made_by="")
    assert report.aware is not None
    worse = replace(report, int8_drop_points=3.0, aware=replace(report.aware, agreement=0.9))
    first, note, warning = summary(worse, load_section(Export, "export", exported / "params.yaml"))
    assert f"model.onnx {report.files['model.onnx'].bytes:,} bytes, mean average precision 9" in first
    assert note.endswith(
        "the file decides on the entries as the network that was trained on 90.00% of 100 validation images alone"
    )
    assert "int8 loses 3.00 points of mean average precision, more than 0.5; " in warning


def test_the_example_prints_each_class_and_marks_the_likely_ones(
    exported: Path, test_split: SplitInMemory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = int((test_split.hard_labels.sum(1) == 2).nonzero()[0, 0])
    Image.fromarray(test_split.inputs[row, 0].numpy()).save(tmp_path / "image.png")
    shutil.copytree(exported / "data/export/small", tmp_path / "small")
    runpy.run_path(str(tmp_path / "small/predict.py"))["main"](str(tmp_path / "image.png"))
    with torch.no_grad():
        probs = read_model(exported / "data/train_student/small", made_by="")(test_split.inputs[[row]])[0].sigmoid()
    expected = [
        f"{probs[at].item():7.2%} {'*' if probs[at] > 0.5 else ' '} {NAMES[at]}"
        for at in np.argsort(-probs.numpy(), kind="stable")
    ]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(NAMES)
    assert {line[8:] for line in lines} == {line[8:] for line in expected}
    shares = [float(line[:6]) for line in lines]
    assert shares == sorted(shares, reverse=True)
    np.testing.assert_allclose(shares, [float(line[:6]) for line in expected], atol=0.02)
    assert 0 < sum("*" in line for line in lines) == int((probs > 0.5).sum()) < len(NAMES)
