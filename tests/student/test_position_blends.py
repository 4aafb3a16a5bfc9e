"""Soft targets at positions, worked out before the step: the same loss and gradient as in it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_losses_at_positions import CHANNELWISE, COUNT, CPU, FORMS, KD, MAPS, PX, STUDENT, TEACHER, targets_of
from torch import nn

from pipeline.labels.targets import SparseTargets
from pipeline.signals import signal_named
from pipeline.student.batches import LabelledBatch, join_targets
from pipeline.student.losses import build_loss
from pipeline.student.objective import Objective
from pipeline.student.position_blends import PositionBlend

MIXED = {"partner_labels": MAPS.flip(0), "own_shares": torch.linspace(0.5, 1, COUNT)}


class Given(nn.Module):
    """A network whose logits are weights, channels last in memory as convolutions leave them."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(STUDENT.contiguous(memory_format=torch.channels_last))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits * 1.0


def batch_of(form: dict[str, Any], temperature: float, **changes: Any) -> LabelledBatch:
    images = torch.zeros(COUNT, 1, PX, PX, dtype=torch.uint8)
    return LabelledBatch(images, MAPS, soft_targets=targets_of(TEACHER, temperature, **form), **changes)


def blended(objective: Objective, batch: LabelledBatch) -> PositionBlend:
    targets = objective.blend(batch.soft_targets, batch.hard_labels, None)
    assert isinstance(targets, PositionBlend)
    return targets


@pytest.mark.parametrize("weights", [(0.0, 1.0), (0.3, 1.4)], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("changes", [{}, MIXED], ids=["plain", "mixed"])
@pytest.mark.parametrize(
    ("row", "form"), [*((KD, form) for form in FORMS), (CHANNELWISE, "positions"), (CHANNELWISE, "cells")], ids=str
)
def test_targets_that_are_worked_out_give_the_loss_and_its_gradient(
    row: dict[str, Any], form: str, changes: dict[str, Any], temperature: float, weights: tuple[float, float]
) -> None:
    objective = Objective(*weights, temperature, 0.1, build_loss(row, "loss"), signal=signal_named("grid"))
    model, batch = Given(), batch_of(FORMS[form], temperature, **changes)
    losses = [objective(model, each, CPU) for each in (batch, replace(batch, soft_targets=blended(objective, batch)))]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, model.logits)[0] for loss in losses))


@pytest.mark.parametrize("form", FORMS)
def test_pieces_make_the_whole(form: str) -> None:
    objective = Objective(0.5, 0.5, 2.0, 0.0, build_loss(KD, "loss"), signal=signal_named("grid"))
    whole = blended(objective, batch_of(FORMS[form], 2.0))
    joined = join_targets([whole[slice(0, 2)], whole[slice(2, COUNT)]])
    assert isinstance(joined, PositionBlend)
    assert torch.equal(joined.mean_loss(joined.strips(STUDENT)), whole.mean_loss(whole.strips(STUDENT)))


def test_a_few_classes_and_the_rest_stay_as_they_are() -> None:
    targets = targets_of(TEACHER)
    assert isinstance(targets.rows, torch.Tensor)
    classes = torch.arange(3).expand(len(targets.rows), -1)
    sparse = replace(targets, rows=SparseTargets(classes, targets.rows[:, :3], targets.rows[:, 3]))
    objective = Objective(0.5, 0.5, 1.0, 0.0, build_loss(KD, "loss"), signal=signal_named("grid"))
    assert objective.blend(sparse, MAPS, None) is sparse
