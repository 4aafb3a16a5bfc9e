"""Losses of soft targets at positions: means of rows, and where in an image each class is."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_formulas import DIST, DKD, KD, KD_OF_SCORES, MSE, NKD
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from pipeline.core.errors import ConfigError
from pipeline.labels.position_targets import PositionTargets
from pipeline.labels.targets import SparseTargets
from pipeline.signals import signal_named
from pipeline.student.batches import LabelledBatch, cut_lesson, join_targets
from pipeline.student.losses import build_loss
from pipeline.student.losses.channelwise import channelwise_distillation
from pipeline.student.objective import Objective

CPU = torch.device("cpu")
CHANNELWISE = {"kind": "channelwise"}
COUNT, CLASSES, PX = 5, 4, 6
Row = dict[str, Any]


def random(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = (random(seed, COUNT, CLASSES, PX, PX) for seed in (0, 1))
MAPS = torch.randint(-1, CLASSES, (COUNT, PX, PX), generator=torch.Generator().manual_seed(2), dtype=torch.int16)
DRAWN = torch.stack([torch.randperm(PX * PX, generator=torch.Generator().manual_seed(n))[:9] for n in range(COUNT)])


def rows(values: Tensor) -> Tensor:
    """Returns a row of classes for each position of each example."""
    return values.flatten(2).movedim(1, 2).flatten(0, 1)


def targets_of(teacher: Tensor, temperature: float = 2.0, **form: Any) -> PositionTargets:
    """Returns what a store of cells, or of drawn positions, gives of a teacher's outputs."""
    empty = PositionTargets(torch.empty(0, CLASSES), 0, **form)
    maps = empty.maps_of(teacher)
    return replace(empty, rows=log_softmax(rows(maps) / temperature, dim=1), num_positions=maps.shape[2])


FORMS: dict[str, Row] = {
    "positions": {},
    "cells": {"stride": 3},
    "drawn": {"index": DRAWN, "shares": torch.linspace(1, 2, 9).double() / torch.linspace(1, 2, 9).double().sum()},
}
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@each_form
@pytest.mark.parametrize("row", [KD, DKD, DIST, NKD, MSE, KD_OF_SCORES], ids=str)
def test_a_loss_is_the_mean_of_its_values_at_the_positions(row: Row, form: Row) -> None:
    loss, targets = build_loss(row, "loss"), targets_of(TEACHER, **form)
    found = loss(STUDENT, targets, MAPS, temperature=2.0, epoch=0)
    cells = STUDENT.reshape(COUNT, CLASSES, 2, 3, 2, 3).mean(dim=(3, 5)) if "stride" in form else STUDENT
    said, labels = rows(cells), MAPS.flatten(1)
    if "index" in form:
        said = rows(torch.stack([STUDENT[n].flatten(1)[:, DRAWN[n]] for n in range(COUNT)]))
        labels = torch.stack([labels[n][DRAWN[n]] for n in range(COUNT)])
    labels = labels.flatten() if "stride" not in form else torch.full((len(said),), -1)
    assert isinstance(targets.rows, Tensor)
    values = loss(said, targets.rows, labels.clamp(min=0).long(), temperature=2.0, epoch=0)
    if loss.needs_hard_label:  # no class is known there
        values = values * (labels >= 0)
    shares = form.get("shares", torch.full((targets.num_positions,), 1 / targets.num_positions).double())
    expected = (values.reshape(COUNT, -1) * shares).sum(dim=1)
    torch.testing.assert_close(found, expected)


def test_a_few_classes_and_the_rest_are_compared_at_positions_too() -> None:
    targets = targets_of(TEACHER)
    assert isinstance(targets.rows, Tensor)
    kept = SparseTargets(
        torch.arange(CLASSES - 1).expand(len(targets.rows), -1), targets.rows[:, :-1], targets.rows[:, -1]
    )
    loss, sparse = build_loss(KD, "loss"), replace(targets, rows=kept)
    values = [loss(STUDENT, each, MAPS, temperature=2.0, epoch=0) for each in (targets, sparse)]
    torch.testing.assert_close(*values)


@each_form
def test_labels_are_cut_and_joined_with_their_positions(form: Row) -> None:
    whole = targets_of(TEACHER, **form)
    parts = [cut_lesson((whole, None), slice(0, 2))[0], cut_lesson((whole, None), slice(2, COUNT))[0]]
    assert isinstance(parts[1], PositionTargets)
    joined = join_targets(parts)
    assert isinstance(joined, PositionTargets)
    for loss in (KD, CHANNELWISE) if "index" not in form else (KD,):
        given = [(STUDENT, whole, MAPS), (STUDENT, joined, MAPS), (STUDENT[2:], parts[1], MAPS[2:])]
        of_all, again, some = (build_loss(loss, "loss")(*each, temperature=2.0, epoch=0) for each in given)
        assert torch.equal(of_all, again)
        torch.testing.assert_close(some, of_all[2:])


def by_the_paper(student: Tensor, teacher: Tensor, t: float) -> Tensor:
    """Returns equation 4 of arXiv 2011.13256, class by class; activations are log-probabilities."""
    total = torch.zeros(len(student), dtype=torch.float64)
    for own, other in zip(student.unbind(dim=1), teacher.unbind(dim=1), strict=True):
        phi_s, phi_t = (each.exp() / each.exp().sum(dim=1, keepdim=True) for each in (own, other))
        total += (phi_t * (phi_t / phi_s).log()).sum(dim=1)
    return t**2 / student.shape[1] * total


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0])
def test_the_channelwise_loss_is_the_papers_with_its_gradient(temperature: float, scale: float) -> None:
    student = (scale * STUDENT).flatten(2).requires_grad_()
    teacher = log_softmax(scale * TEACHER.flatten(2) / temperature, dim=1)
    found = channelwise_distillation(student, teacher, temperature=temperature)
    expected = by_the_paper(log_softmax(student / temperature, dim=1), teacher, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-12)
    gradients = [torch.autograd.grad(each.sum(), student, retain_graph=True)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-12)


def test_the_channelwise_loss_asks_where_a_class_is_and_not_how_much_of_it_there_is() -> None:
    teacher = log_softmax(TEACHER, dim=1)
    row = build_loss(CHANNELWISE, "loss")
    same = row(teacher, targets_of(teacher, 1.0), MAPS, temperature=1.0, epoch=0)
    assert same.abs().max() < 1e-12
    fainter = teacher - torch.arange(CLASSES)[:, None, None]  # at every position alike
    values = [
        channelwise_distillation(STUDENT.flatten(2), each.flatten(2), temperature=1.0) for each in (teacher, fainter)
    ]
    torch.testing.assert_close(*values)
    moved = row(teacher.flip(3), targets_of(teacher, 1.0), MAPS, temperature=1.0, epoch=0)
    assert moved.min() > 0.1


def test_an_objective_weighs_maps_and_labels_at_positions() -> None:
    class Given(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return STUDENT

    batch = LabelledBatch(
        torch.zeros(COUNT, 1, PX, PX, dtype=torch.uint8), MAPS, soft_targets=targets_of(TEACHER, stride=2)
    )
    loss, grid = build_loss(CHANNELWISE, "loss"), signal_named("grid")
    found = Objective(0.3, 0.7, 2.0, 0.1, loss, signal=grid)(Given(), batch, CPU)
    assert batch.soft_targets is not None
    soft = loss(STUDENT, batch.soft_targets, MAPS, temperature=2.0, epoch=0)
    expected = (0.3 * grid.hard_loss(STUDENT, MAPS, 0.1) + 0.7 * soft).mean()
    assert found.item() == pytest.approx(expected.item())
    unlabelled = replace(batch, hard_labels=torch.full_like(MAPS, -1))
    alone = Objective(0.3, 0.7, 2.0, 0.1, loss, signal=grid)(Given(), unlabelled, CPU)
    assert alone.item() == pytest.approx(0.7 * soft.mean().item())


@pytest.mark.parametrize(
    ("row", "stride", "line"),
    [
        (DKD, 4, r"kind 'dkd' needs one hard label, and each of these labels is of a cell of several positions \(4 x 4\); expected a store with"),
        (NKD, 2, r"kind 'nkd' needs one hard label"),
        (DKD, 1, None),
        (DKD, None, None),
        (KD, 4, None),
        (CHANNELWISE, 4, None),
        (CHANNELWISE, None, r"kind 'channelwise' compares the positions of an image, and this store holds drawn ones"),
    ],
)  # fmt: skip
def test_a_loss_that_other_positions_are_needed_for_says_so_in_a_line(
    row: Row, stride: int | None, line: str | None
) -> None:
    loss = build_loss(row, "x.loss")
    if line is None:
        loss.check_positions(stride, "x.loss")
        return
    with pytest.raises(ConfigError, match=f"^x.loss: {line}") as caught:
        loss.check_positions(stride, "x.loss")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 500


def test_signals_are_refused_in_a_line() -> None:
    build_loss(KD, "x.loss").check_signal("grid", "x.loss")
    for row, found, line in (
        (CHANNELWISE, "categorical", "'channelwise', which learns from grid labels, and these are categorical"),
        ({"kind": "binary_kd"}, "grid", "expected kd, dkd, dist, nkd, mse or channelwise"),
    ):
        with pytest.raises(ConfigError, match=line):
            build_loss(row, "x.loss").check_signal(found, "x.loss")  # type: ignore[arg-type]
