"""Blends: hard labels and soft targets in one, the same loss as apart, in a cheaper step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from stores import SPLIT, UINT8, make
from test_objective import CPU, DIST, KD, Fixed, batch_of, loss_of

from benchmarks.measure import operations
from pipeline.signals import SIGNALS, SignalKind
from pipeline.student.batches import LabelledBatch, join_targets
from pipeline.student.blends import Blend
from pipeline.student.labelled_views import LabelledViews
from pipeline.student.losses import build_loss
from pipeline.student.objective import Objective
from pipeline.training.hard_labels import partners_of

UNLABELLED = torch.tensor([0, -1, 2, 3, -1, 1, 2, 3])
MIXED = {"partner_labels": torch.tensor([1, 2, -1, 0, -1, 0, 1, 3]), "own_shares": torch.linspace(0.5, 1, 8)}


def blended(objective: Objective, batch: LabelledBatch) -> LabelledBatch:
    partners = partners_of(batch.partner_labels, batch.own_shares)
    targets = objective.blend(batch.soft_targets, batch.hard_labels, partners)
    assert isinstance(targets, Blend)
    return replace(batch, soft_targets=targets)


ENTRIES = torch.tensor([[1, 0, -1, 1], [0, 1, 1, -1], [-1, -1, -1, -1], [0, 0, 1, 0]] * 2, dtype=torch.int8)
ODDS_MIXED = {"partner_labels": ENTRIES.flip(0), "own_shares": torch.linspace(0.5, 1, 8)}


@pytest.mark.parametrize("weights", [(0.0, 1.0), (0.5, 0.5), (0.3, 1.4)], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("categorical", {}),
        ("categorical", {"hard_labels": UNLABELLED}),
        ("categorical", {"hard_labels": UNLABELLED, **MIXED}),
        ("binary", {"hard_labels": ENTRIES}),
        ("binary", {"hard_labels": ENTRIES, **ODDS_MIXED}),
    ],
)
@pytest.mark.parametrize(("smoothing", "class_weights"), [(0.0, None), (0.2, torch.tensor([0.5, 2.0, 1.0, 0.1]))])
def test_a_blend_gives_the_loss_and_the_gradient_of_its_parts(
    weights: tuple[float, float],
    temperature: float,
    kind: SignalKind,
    changes: dict[str, Any],
    smoothing: float,
    class_weights: torch.Tensor | None,
) -> None:
    loss = loss_of() if kind == "categorical" else build_loss({"kind": "binary_kd"}, "loss")
    objective = Objective(*weights, temperature, smoothing, loss, class_weights, SIGNALS[kind])
    model, batch = Fixed(8, dtype=torch.float32), batch_of(temperature=temperature, **changes)
    losses = [objective(model, batch, CPU), objective(model, blended(objective, batch), CPU)]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, model.logits)[0] for loss in losses))


@pytest.mark.parametrize("kind", ["categorical", "binary"])
def test_the_gradient_of_a_blend_is_that_of_its_values(kind: SignalKind) -> None:
    loss = loss_of() if kind == "categorical" else build_loss({"kind": "binary_kd"}, "loss")
    labels = {} if kind == "categorical" else {"hard_labels": ENTRIES}
    objective, batch = Objective(0.4, 0.6, 2.0, 0.1, loss, signal=SIGNALS[kind]), batch_of(temperature=2.0, **labels)
    targets = blended(objective, batch).soft_targets
    assert isinstance(targets, Blend)
    torch.autograd.gradcheck(targets.mean_loss, Fixed(8).logits)


def test_a_blended_step_has_about_as_many_operations_as_one_of_hard_labels() -> None:
    hard, soft = Objective(1.0, 0.0, 1.0, 0.0, loss_of()), Objective(0.5, 0.5, 1.0, 0.0, loss_of())
    batch, model = batch_of(), Fixed(8, dtype=torch.float32)
    at_2 = replace(soft, temperature=2.0)
    cases = [(hard, batch), (soft, blended(soft, batch)), (at_2, blended(at_2, batch))]
    of_twin, at_one, apart = (operations(lambda: objective(model, some, CPU).backward()) for objective, some in cases)  # noqa: B023
    assert at_one <= of_twin + 4
    assert apart <= of_twin + 17  # another softmax


def test_views_blend_what_they_decode(tmp_path: Path) -> None:
    objective = Objective(0.5, 0.5, 2.0, 0.0, loss_of())
    plain = LabelledViews(SPLIT, make(tmp_path, UINT8), [*"abcdef"], 2.0)
    assert plain.blend is None
    totals = []
    for views in (plain, plain.blended(objective.blend)):
        batches = list(views.batches(0, 1, batch_size=8, seed=0))
        assert all(isinstance(batch.soft_targets, Blend) == (views is not plain) for batch in batches)
        totals.append(torch.stack([objective(Fixed(8, 6, torch.float32), batch, CPU) for batch in batches]))
    torch.testing.assert_close(*totals)


def test_pieces_of_a_blend_make_the_whole() -> None:
    objective, batch = Objective(0.5, 0.5, 2.0, 0.0, loss_of()), batch_of(temperature=2.0)
    whole = blended(objective, batch).soft_targets
    assert isinstance(whole, Blend)
    joined = join_targets([whole[slice(0, 3)], whole[slice(3, 8)]])
    assert isinstance(joined, Blend)
    logits = Fixed(8).logits
    assert torch.equal(joined.mean_loss(logits), whole.mean_loss(logits))


@pytest.mark.parametrize("loss", [loss_of(DIST), loss_of(KD, standardize=True)], ids=["dist", "standardised"])
def test_what_is_no_cross_entropy_stays_apart(loss: Any) -> None:
    batch = batch_of()
    assert Objective(0.5, 0.5, 1.0, 0.0, loss).blend(batch.soft_targets, batch.hard_labels, None) is batch.soft_targets
