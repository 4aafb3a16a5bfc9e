"""Metrics against their definitions in plain numpy, and against cases with a known answer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.signals.metrics import (
    NUM_BINS,
    accuracy,
    agreement,
    brier,
    classification_metrics,
    ece,
    kl_to_teacher,
    nll,
    reliability,
)

PROPERTY = settings(max_examples=40, deadline=None, database=None)
SIZES = {"seed": st.integers(0, 2**32 - 1), "samples": st.integers(1, 60), "classes": st.integers(2, 12)}


def draw(seed: int, samples: int, classes: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Returns logits, hard labels, and the softmax of the logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, rng.uniform(0.1, 5), (samples, classes))
    powers = np.exp(logits)
    labels = torch.from_numpy(rng.integers(0, classes, samples))
    return torch.from_numpy(logits), labels, powers / powers.sum(axis=1, keepdims=True)


@PROPERTY
@given(**SIZES)
def test_classification_metrics_equal_their_definitions(seed: int, samples: int, classes: int) -> None:
    logits, hard_labels, probs = draw(seed, samples, classes)
    labels, rows = hard_labels.numpy(), np.arange(samples)
    correct, confidence = probs.argmax(axis=1) == labels, probs.max(axis=1)
    gap = 0.0
    for low in np.arange(NUM_BINS) / NUM_BINS:
        inside = (confidence > low) & (confidence <= low + 1 / NUM_BINS)
        if inside.any():
            gap += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    expected = {
        "accuracy": correct.mean(),
        "nll": -np.log(probs[rows, labels]).mean(),
        "ece": gap,
        "brier": ((probs - np.eye(classes)[labels]) ** 2).sum(axis=1).mean(),
    }
    assert classification_metrics(logits, hard_labels) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@PROPERTY
@given(**SIZES)
def test_agreement_and_divergence_equal_their_definitions(seed: int, samples: int, classes: int) -> None:
    student, _, p_student = draw(seed, samples, classes)
    teacher, _, p_teacher = draw(seed + 1, samples, classes)
    assert agreement(student, teacher) == pytest.approx((p_student.argmax(1) == p_teacher.argmax(1)).mean())
    expected = (p_teacher * np.log(p_teacher / p_student)).sum(axis=1).mean()
    assert kl_to_teacher(student, teacher) == pytest.approx(expected, rel=1e-7, abs=1e-10)
    assert agreement(teacher, teacher) == 1
    assert kl_to_teacher(teacher, teacher) == pytest.approx(0, abs=1e-12)


def test_confidence_that_is_kept_has_no_calibration_error() -> None:
    # Of every ten samples with confidence k / 10, k are right.
    probs, labels = [], []
    for right in (6, 7, 8, 9):
        probs += [[right / 10, 1 - right / 10]] * 10
        labels += [0] * right + [1] * (10 - right)
    logits, hard_labels = torch.tensor(probs, dtype=torch.float64).log(), torch.tensor(labels)
    assert ece(logits, hard_labels) == pytest.approx(0, abs=1e-12)
    assert ece(logits, 1 - hard_labels) == pytest.approx(0.5, abs=1e-12)
    assert [b.count for b in reliability(logits, hard_labels)] == [10, 10, 10, 10]


def test_sure_and_right_is_perfect_and_sure_and_wrong_is_the_worst() -> None:
    logits, labels = 200 * torch.eye(4), torch.arange(4)
    assert classification_metrics(logits, labels) == pytest.approx({"accuracy": 1, "nll": 0, "ece": 0, "brier": 0})
    wrong = labels.roll(1)
    assert (accuracy(logits, wrong), ece(logits, wrong)) == (0, 1)
    assert nll(logits, wrong) == pytest.approx(200)
    assert brier(logits, wrong) == pytest.approx(2)


def test_bins_hold_every_sample_within_their_bounds() -> None:
    logits, labels, _ = draw(0, 500, 3)
    bins = reliability(logits, labels)
    assert sum(b.count for b in bins) == 500
    assert all(b.low < b.confidence <= b.high + 1e-12 for b in bins)
