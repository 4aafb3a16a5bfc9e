"""A student's epoch against a plain loop: both train one network on the same views."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_split
from project import student
from stores import CLASSES, FLOAT16, make

from benchmarks.plain_loop import Epoch, accuracy, measure
from pipeline.core.config import validate
from pipeline.models.saved import ModelMeta
from pipeline.student.labelled_views import LabelledViews
from pipeline.student.settings import TrainStudent

SPLIT = make_split(240, classes=len(CLASSES))


@pytest.fixture
def epoch(tmp_path: Path) -> Epoch:
    row = validate(TrainStudent, student(), "test")
    row = replace(row, fit=replace(row.fit, batch_size=4))
    views = LabelledViews(SPLIT, make(tmp_path / "x.zarr", FLOAT16, SPLIT), CLASSES, 1.0)
    meta = ModelMeta(row.model, row.model_settings, CLASSES, [1, 12, 12], [0.3], [0.2], {}, "", {})
    return Epoch(row, views, SPLIT, torch.device("cpu"), meta)


def test_the_plain_loop_learns(epoch: Epoch) -> None:
    images, labels = SPLIT.inputs, SPLIT.hard_labels
    torch.manual_seed(0)
    untrained, trained = epoch.meta.build(), epoch.plain(judged=True)()
    assert accuracy(trained, images, labels) > accuracy(untrained, images, labels) + 0.1


def test_an_epoch_is_timed_in_each_way(epoch: Epoch) -> None:
    figures = measure(epoch, rounds=1)
    assert {name for name in figures if name.endswith(" s")} == {"ours s", "plain loop, validated s", "plain loop s"}
    assert all(value > 0 for value in figures.values())
