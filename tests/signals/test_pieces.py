"""Figures of many classes are computed for some samples at a time, to the same bits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import pipeline.signals.pieces
from pipeline.evaluation.marks.categorical import answers
from pipeline.signals.metrics import brier, kl_to_teacher, nll, reliability
from pipeline.signals.pieces import by_pieces
from pipeline.teacher.calibration import fit_temperature

ROWS, CLASSES = 103, 40


def made() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns logits, hard labels and a teacher's logits."""
    draw = torch.Generator().manual_seed(0)
    logits, teacher = (3 * torch.randn(ROWS, CLASSES, generator=draw) for _ in range(2))
    return logits, torch.where(torch.rand(ROWS, generator=draw) < 0.5, logits.argmax(dim=1), 0), teacher


FIGURES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]] = {
    "nll": lambda logits, labels, teacher: nll(logits, labels),
    "brier": lambda logits, labels, teacher: brier(logits, labels),
    "reliability": lambda logits, labels, teacher: reliability(logits, labels),
    "kl": lambda logits, labels, teacher: kl_to_teacher(logits, teacher),
    "temperature": lambda logits, labels, teacher: fit_temperature(logits, labels),
    "answers": lambda logits, labels, teacher: [
        tensor.tolist() for tensor in answers(logits, labels, teacher).values()
    ],
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_that_of_all_at_once_and_no_more_are_held(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FIGURES[name](*made())
    sizes: list[int] = []
    double = torch.Tensor.double
    monkeypatch.setattr(pipeline.signals.pieces, "VALUES_AT_ONCE", 10 * CLASSES)
    monkeypatch.setattr(torch.Tensor, "double", lambda tensor: sizes.append(tensor.numel()) or double(tensor))
    assert FIGURES[name](*made()) == whole
    assert len(sizes) > ROWS // 10
    assert max(sizes) <= 10 * CLASSES


def test_every_sample_is_asked_once_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.signals.pieces, "VALUES_AT_ONCE", 7)  # a row has more
    rows = torch.arange(ROWS)
    assert torch.equal(by_pieces(lambda some, numbers: numbers, torch.zeros(ROWS, CLASSES), rows), rows)
