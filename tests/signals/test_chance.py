"""A network that learned nothing is refused, or at least reported."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import make_split

import pipeline.student.run
from pipeline.core.errors import ModelError
from pipeline.signals.categorical import CATEGORICAL
from pipeline.signals.chance import chance_line, check_learned
from pipeline.student.run import Students, Trained
from pipeline.teacher.calibration import calibrate
from pipeline.training.validation import Validation

LABELS = torch.arange(400) % 4


def right_in(share: float) -> torch.Tensor:
    """Returns logits that are right in this share of each class, and name the next class else."""
    is_right = torch.arange(400) % 100 < 100 * share
    return 5 * torch.eye(4)[torch.where(is_right, LABELS, (LABELS + 1) % 4)]


ONE_CLASS = 5 * torch.eye(4)[torch.zeros(400, dtype=torch.long)]


@pytest.mark.parametrize(
    ("logits", "labels", "refused"),
    [
        (ONE_CLASS, LABELS, True),
        (right_in(0.2), LABELS, True),
        (right_in(0.3), LABELS, False),  # in doubt
        (right_in(0.9), LABELS, False),
        (ONE_CLASS[:40], LABELS[:40], False),  # too few to tell
        (ONE_CLASS, torch.zeros(400, dtype=torch.long), False),  # there is nothing else to name
    ],
    ids=["one class", "wrong", "in doubt", "right", "few", "a single class"],
)
def test_a_network_that_is_right_by_chance_alone_is_refused(
    logits: torch.Tensor, labels: torch.Tensor, refused: bool
) -> None:
    if not refused:
        return check_learned(logits, labels, "x")
    with pytest.raises(ModelError, match=r"^x: learned nothing: accuracy 2.* on 400 validation images .*learning_rate"):
        check_learned(logits, labels, "x")
    return None


@pytest.mark.parametrize(("accuracy", "told"), [(0.25, True), (0.31, True), (0.33, False), (1.0, False)])
def test_an_accuracy_that_chance_could_come_to_is_reported(accuracy: float, told: bool) -> None:
    line = chance_line(accuracy, LABELS)
    assert (line is not None) == told
    assert line is None or f"{accuracy:.2%} on 400 images" in line


def validation(logits: torch.Tensor) -> Validation:
    class Known(Validation):
        def logits(self, model: torch.nn.Module) -> torch.Tensor:
            return logits

    return Known(make_split(400, shape=(1, 2, 2)), None, torch.device("cpu"))


def test_the_teachers_stage_refuses_and_reports(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="train_teacher: learned nothing"):
        calibrate(torch.nn.Identity(), validation(ONE_CLASS), None)
    calibrate(torch.nn.Identity(), validation(right_in(0.3)), None)
    assert "train_teacher: val accuracy 30.00% on 400 images is no better" in capsys.readouterr().err


def test_the_students_stage_reports(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    result = SimpleNamespace(state=SimpleNamespace(history=[{"val_accuracy": 0.25}]))
    own = SimpleNamespace(run=SimpleNamespace(finished=True), views=SimpleNamespace(signal=CATEGORICAL))
    monkeypatch.setattr(Students, "start", lambda students, name: own)
    monkeypatch.setattr(pipeline.student.run, "fit", lambda runs, batches: [result])
    monkeypatch.setattr(pipeline.student.run, "Trained", lambda *parts: object.__new__(Trained))
    plan = SimpleNamespace(
        title="train_student@x", settings=SimpleNamespace(learns_classes=True), scratch=SimpleNamespace(folder=Path())
    )
    data: Any = SimpleNamespace(val=SimpleNamespace(hard_labels=LABELS))
    students = object.__new__(Students)
    vars(students).update(_plans={"x": plan}, _data=data)
    students.train("x")
    assert "train_student@x: val accuracy 25.00% on 400 images is no better" in capsys.readouterr().err
