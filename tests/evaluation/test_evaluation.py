"""Networks on the test split: batches do not matter, like networks are timed once, and a teacher
may be logits alone.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split
from teachers import edit_params, make_project, run_evaluate, run_student

from pipeline.core.config import validate
from pipeline.core.errors import DataError
from pipeline.core.tensors import read_tensors
from pipeline.data.dataset import ImageDataset
from pipeline.evaluation.corruptions import CORRUPTIONS
from pipeline.evaluation.corruptions.base import Robustness
from pipeline.evaluation.exam import Exam
from pipeline.evaluation.marks.categorical import answers, score
from pipeline.evaluation.networks import measure_costs
from pipeline.models.saved import ModelMeta, write_model
from pipeline.preparation.write import write_dataset
from pipeline.results.costs import Cost
from pipeline.signals.metrics import accuracy
from stages import import_labels

COST = Cost(1, {"one": {"p50": 1.0, "p95": 2.0}, "all": {"p50": 1.0, "p95": 2.0}}, 2, 1)
META = ModelMeta(
    "convnet_small", {"width": 2, "depth": 1}, ["a", "b", "c", "d"], [1, 12, 12], [0.3], [0.3], {}, "float32", {}
)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Returns the folders that are measured, in turn; no process is started."""
    paths: list[Path] = []

    def measure(kind: str, path: Path, repeats: int, warmup: int) -> Cost:
        paths.append(path)
        return replace(COST, peak_memory_bytes=len(paths))

    monkeypatch.setattr("pipeline.evaluation.networks.measure_cost", measure)
    return paths


@pytest.mark.parametrize(("num_images", "batch_size"), [(30, 7), (64, 64), (1000, 1000), (1, 3)])
def test_worse_images_are_the_first_of_the_split(num_images: int, batch_size: int, tmp_path: Path) -> None:
    split, model = make_split(64), META.build(3).eval()
    write_dataset(tmp_path, "digits", META.class_names, dict.fromkeys(("train", "val", "test"), split))
    worse = validate(Robustness, {"severity": 4, "num_images": num_images, "seed": 2}, "robustness")
    exam, seen = Exam(ImageDataset(tmp_path).stream("test"), worse, batch_size, torch.device("cpu")), []
    logits = exam.logits(model, seen.append)
    found = exam.corrupted(model, logits, seen.append)
    count = min(num_images, 64)
    assert exam.num_corrupted == count
    assert sum(seen) == exam.num_seen(is_student=True) - 64 == exam.num_seen(is_student=False)
    labels = split.hard_labels[:count]
    with torch.inference_mode():
        for kind in CORRUPTIONS:
            images = CORRUPTIONS[kind]().apply(split.inputs[:count], split.sample_ids[:count], 4, 2)
            assert found[kind] == accuracy(model(images), labels)
        assert found["clean"] == accuracy(model(split.inputs[:count]), labels)
    assert found["mean"] == pytest.approx(np.mean([found[kind] for kind in CORRUPTIONS]))


@pytest.mark.parametrize("classes", [2, 9, 10, 11])
def test_top5_is_scored_where_classes_are_many(classes: int) -> None:
    logits, labels = torch.randn(50, classes), torch.arange(50) % classes
    found = score(logits, labels, None)
    assert (found.top5_accuracy is not None) == (classes >= 10)
    assert found.agreement is None
    assert len(found.class_accuracy) == classes


def test_answers_are_the_largest_probability_and_the_hard_labels() -> None:
    logits = torch.tensor([[0.0, np.log(3.0)], [np.log(4.0), 0.0]])
    said = answers(logits, torch.tensor([0, 0]), logits.flip(1))
    assert said["predicted"].tolist() == [1, 0]
    assert said["confidence"].tolist() == pytest.approx([0.75, 0.8])
    assert said["hard_prob"].tolist() == pytest.approx([0.25, 0.8])
    assert said["kl_to_teacher"].tolist() == pytest.approx([0.5 * np.log(3), 0.6 * np.log(4)])
    assert {name: values.dtype for name, values in said.items()} == {
        "predicted": torch.int32,
        "confidence": torch.float32,
        "hard_prob": torch.float32,
        "kl_to_teacher": torch.float32,
    }


@pytest.mark.parametrize(
    ("other", "times"),
    [
        ({}, 1),
        ({"settings": {"seed": 9, "twin_of": "a"}, "mean": [0.1]}, 1),
        ({"model_settings": {"width": 3, "depth": 1}}, 2),
        ({"image_shape": [1, 16, 16]}, 2),
        ({"size_px": [24, 24]}, 2),
        ({"num_outputs": 7, "class_groups": [[0], [1], [2], [3]]}, 2),
    ],
)
def test_networks_that_differ_in_weights_alone_are_measured_once(
    tmp_path: Path, measured: list[Path], other: dict[str, Any], times: int
) -> None:
    for name, meta in {"a": META, "b": replace(META, **other)}.items():
        write_model(tmp_path / name, meta, meta.build().state_dict())
    seen: list[int] = []
    costs = measure_costs({name: tmp_path / name for name in "ab"}, 5, seen.append)
    assert len(measured) == times
    assert (costs["a"] == costs["b"]) == (times == 1)
    assert list(costs) == ["a", "b"]
    assert sum(seen) == 2


def test_students_of_imported_logits_are_evaluated_without_a_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path, {})
    split = ImageDataset(tmp_path / "data/prepare").split("train")
    np.savez(tmp_path / "x.npz", sample_id=split.sample_ids, logits=4 * np.eye(4, dtype=np.float32)[split.hard_labels])
    lines = [f"{number:016x}\ttrain\tant\t{row}" for row, number in enumerate(split.sample_ids.tolist())]
    (tmp_path / "data/prepare/samples.tsv").write_text("sample_id\tsplit\tclass\tkey\n" + "\n".join(lines) + "\n")
    import_labels.main(tmp_path / "x.npz", None, False, tmp_path / "params.yaml")
    for name in ("small", "small_hard"):
        edit_params(tmp_path, f"students.{name}.fit", epochs=1)
        run_student(tmp_path, name)
    run_evaluate(tmp_path)
    content = json.loads((tmp_path / "reports/evaluate.json").read_text())
    assert list(content["models"]) == ["small", "small_hard"]
    assert "agreement" not in content["models"]["small"]
    assert content["comparisons"][0]["student"] == "small"
    said = read_tensors(tmp_path / "data/evaluate/predictions.safetensors", made_by="")
    assert {name.partition(".")[2] for name in said} == {"predicted", "confidence", "hard_prob"}
    assert not any("headline" in row for row in content["models"].values())
    edit_params(tmp_path, "evaluate", headline="balanced")
    run_evaluate(tmp_path)
    balanced = json.loads((tmp_path / "reports/evaluate.json").read_text())
    assert balanced["headline"] == "balanced"
    for name, row in balanced["models"].items():
        assert row["headline"] == pytest.approx(np.mean(row["class_accuracy"]))
        assert row["accuracy"] == content["models"][name]["accuracy"]
    assert "balanced_accuracy" in json.loads((tmp_path / "reports/metrics.json").read_text())
    # Students whose labels come from a network need that network here.
    shutil.rmtree(tmp_path / "data/dump_labels")
    with pytest.raises(DataError, match=r"train_teacher/meta\.json: no such file; run `dvc repro train_teacher`"):
        run_evaluate(tmp_path)
