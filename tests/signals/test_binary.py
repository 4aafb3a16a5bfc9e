"""Independent classes: the loss, the divergence and the figures, against definitions in full."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score
from torch import Tensor

from pipeline.signals.binary import Binary, bernoulli_divergence, binary_cross_entropy, mean_log_odds
from pipeline.signals.binary_metrics import (
    areas_under_roc,
    average_precisions,
    best_threshold,
    binary_ece,
    f1,
    mean_average_precision,
    prevalence,
    set_metrics,
)
from pipeline.signals.losses import kl_divergence_with_log_targets

BINARY = Binary()
PROPERTY = settings(max_examples=40, deadline=None, database=None)
ODDS = torch.tensor([[2.0, -1.0], [0.5, 3.0], [-2.0, 0.0], [1.0, -4.0]])
ENTRIES = torch.tensor([[1, 0], [0, 1], [-1, 1], [1, -1]], dtype=torch.int8)

numbers = st.floats(-30, 30, width=32)


def matrix(values: Any) -> st.SearchStrategy[Tensor]:
    return arrays(np.float32, (5, 3), elements=values).map(torch.from_numpy)


@PROPERTY
@given(matrix(numbers), matrix(numbers))
def test_the_divergence_is_the_sum_of_that_of_each_class_as_one_of_two(odds: Tensor, others: Tensor) -> None:
    total = torch.zeros(len(odds), dtype=torch.float64)
    for own, other in zip(odds.double().T, others.double().T, strict=True):
        two, other_two = (torch.stack([each, torch.zeros_like(each)], dim=1) for each in (own, other))
        total += kl_divergence_with_log_targets(torch.log_softmax(two, dim=1), other_two)
    found = bernoulli_divergence(odds.double(), others.double())
    torch.testing.assert_close(found, total, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(bernoulli_divergence(odds, others).double(), total, rtol=1e-4, atol=1e-4)


def test_the_divergence_is_exact_where_both_sides_are_sure() -> None:
    """In probabilities of float32 both sides would be 1, and the divergence 0 or NaN."""
    sure, surer = torch.tensor([[40.0]]), torch.tensor([[50.0]])
    q, p = math.exp(-40), math.exp(-50)
    expected = q * (math.log(q) - math.log(p)) - (q - p)  # to the first order
    assert bernoulli_divergence(sure, surer).item() == pytest.approx(expected, rel=1e-2)
    assert bernoulli_divergence(torch.tensor([[500.0]]), torch.tensor([[-500.0]])).item() == pytest.approx(
        500, rel=1e-6
    )


@PROPERTY
@given(matrix(numbers), arrays(np.int8, (5, 3), elements=st.integers(-1, 1)).map(torch.from_numpy), st.floats(0, 0.9))
def test_the_loss_is_the_cross_entropy_of_the_known_entries(odds: Tensor, entries: Tensor, smoothing: float) -> None:
    found = binary_cross_entropy(odds.double(), entries, label_smoothing=smoothing)
    for row, (some, of) in enumerate(zip(odds.double().tolist(), entries.tolist(), strict=True)):
        expected = 0.0
        for odd, entry in zip(some, of, strict=True):
            if entry >= 0:
                target = entry * (1 - smoothing) + smoothing / 2
                expected += target * math.log1p(math.exp(-odd)) + (1 - target) * math.log1p(math.exp(odd))
        assert found[row].item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_an_unknown_entry_has_no_gradient() -> None:
    odds = ODDS.clone().requires_grad_()
    binary_cross_entropy(odds, ENTRIES).sum().backward()  # type: ignore[no-untyped-call]
    assert odds.grad is not None
    assert torch.equal(odds.grad == 0, ENTRIES < 0)


def test_weights_are_of_the_entries_that_are_one() -> None:
    plain = binary_cross_entropy(ODDS, ENTRIES)
    weighted = binary_cross_entropy(ODDS, ENTRIES, weights=torch.tensor([3.0, 1.0]))
    ones = torch.where(ENTRIES[:, 0] == 1, torch.nn.functional.softplus(-ODDS[:, 0]), 0.0)
    torch.testing.assert_close(weighted - plain, 2 * ones)


def in_full(odds: list[float], entries: list[int]) -> float | None:
    """Returns average precision by its definition: thresholds at every distinct value."""
    pairs = [(o, e) for o, e in zip(odds, entries, strict=True) if e >= 0]
    positives = sum(e for _, e in pairs)
    if not positives:
        return None
    total, before = 0.0, 0.0
    for threshold in sorted({o for o, _ in pairs}, reverse=True):
        above = [e for o, e in pairs if o >= threshold]
        recall = sum(above) / positives
        total += (recall - before) * sum(above) / len(above)
        before = recall
    return total


@PROPERTY
@given(
    arrays(np.float32, (12, 3), elements=st.integers(-3, 3).map(float)).map(torch.from_numpy),
    arrays(np.int8, (12, 3), elements=st.integers(-1, 1)).map(torch.from_numpy),
)
def test_average_precision_is_that_of_its_definition_with_ties(odds: Tensor, entries: Tensor) -> None:
    expected = [in_full(o.tolist(), e.tolist()) for o, e in zip(odds.T, entries.T, strict=True)]
    found = average_precisions(odds, entries)
    assert found == [None if value is None else pytest.approx(value) for value in expected]
    known = [value for value in expected if value is not None]
    mean = sum(known) / len(known) if known else 0.0
    assert mean_average_precision(odds, entries) == pytest.approx(mean)


def test_one_output_for_all_has_the_average_precision_of_chance() -> None:
    entries = (torch.rand(400, 3, generator=torch.Generator().manual_seed(0)) < torch.tensor([0.5, 0.1, 0.0])).to(
        torch.int8
    )
    assert mean_average_precision(torch.zeros(400, 3), entries) == pytest.approx(prevalence(entries))
    assert BINARY.chance(torch.zeros(400, 3), entries) == prevalence(entries)


def test_the_figures_of_a_small_example() -> None:
    figures = set_metrics(ODDS, ENTRIES)
    assert next(iter(figures)) == BINARY.headline == "map"
    # Known: 2 yes, 0.5 no, 1 yes of the first class; -1 no, 3 yes, 0 yes of the other: 0 is one
    # half, and from there on an entry is predicted as 1.
    assert figures["map"] == 1.0
    assert figures["accuracy"] == pytest.approx(5 / 6)
    hits, wrong = 4, 1
    assert figures["f1_micro"] == pytest.approx(2 * hits / (2 * hits + wrong))
    assert figures["nll"] == pytest.approx(binary_cross_entropy(ODDS, ENTRIES).sum().item() / 6, rel=1e-5)


def test_the_area_under_the_roc_curve_is_scikit_learns() -> None:
    random = torch.Generator().manual_seed(0)
    odds = torch.randn(300, 3, generator=random).mul(4).round() / 4  # many are equal
    entries = torch.randint(-1, 2, (300, 3), generator=random).to(torch.int8)
    entries[:, 2] = entries[:, 2].clamp(max=0)  # nothing is of the last class
    found = areas_under_roc(odds, entries)
    for place in range(2):
        known = entries[:, place] >= 0
        assert found[place] == pytest.approx(roc_auc_score(entries[known, place], odds[known, place]), rel=1e-12)
    assert found[2] is None
    assert set_metrics(odds, entries)["auc"] == pytest.approx((found[0] + found[1]) / 2)
    assert set_metrics(torch.zeros(300, 3), entries)["auc"] == 0.5


def test_f1_counts_hits_against_false_alarms_and_misses() -> None:
    odds = torch.tensor([[2.0, -2.0], [2.0, 2.0], [-2.0, -2.0], [2.0, 2.0]])
    entries = torch.tensor([[1, 0], [0, 1], [1, 0], [-1, 1]], dtype=torch.int8)
    micro, macro = f1(odds, entries)
    assert micro == pytest.approx(2 * 3 / (2 * 3 + 2))
    assert macro == pytest.approx((2 * 1 / (2 * 1 + 2) + 1) / 2)


def test_the_threshold_is_the_one_of_the_largest_f1() -> None:
    odds = torch.logit(torch.tensor([[0.1], [0.15], [0.31], [0.35], [0.2]]))
    entries = torch.tensor([[0], [0], [1], [1], [0]], dtype=torch.int8)
    threshold = best_threshold(odds, entries)
    assert 0.2 < threshold <= 0.31
    assert f1(odds, entries, threshold) == (1.0, 1.0)


def test_calibration_error_is_the_gap_of_each_bin() -> None:
    odds = torch.logit(torch.tensor([[0.82], [0.82], [0.82], [0.82], [0.02], [0.02]]))
    entries = torch.tensor([[1], [1], [1], [0], [0], [-1]], dtype=torch.int8)
    assert binary_ece(odds, entries) == pytest.approx((4 * (0.82 - 0.75) + 0.02) / 5, abs=1e-5)


def test_the_slope_of_the_nll_is_its_derivative_over_known_entries() -> None:
    odds = ODDS.double()

    def nll(inverse: float) -> float:
        return binary_cross_entropy(odds * inverse, ENTRIES).mean().item()

    for inverse in (0.3, 1.0, 4.0):
        numeric = (nll(inverse + 1e-6) - nll(inverse - 1e-6)) / 2e-6
        assert BINARY.nll_slope(odds, ENTRIES, inverse) == pytest.approx(numeric, rel=1e-6)


def test_the_mean_of_teachers_is_that_of_their_probabilities() -> None:
    one, other = ODDS.double(), -2 * ODDS.double()
    mean = BINARY.mean([one, other], [0.25, 0.75])
    expected = 0.25 * one.sigmoid() + 0.75 * other.sigmoid()
    torch.testing.assert_close(mean.sigmoid(), expected)


def test_a_learned_mean_is_of_the_samples_where_a_class_counts() -> None:
    counted = torch.tensor([[True, False], [True, False], [False, False], [False, False]])
    found = mean_log_odds(ODDS, counted).sigmoid()
    expected = ODDS[:2, 0].double().sigmoid().mean()
    torch.testing.assert_close(found, torch.stack([expected, expected]))  # one that never counts: as the others
    none = mean_log_odds(ODDS, torch.zeros_like(counted))
    assert none.tolist() == [0.0, 0.0]
