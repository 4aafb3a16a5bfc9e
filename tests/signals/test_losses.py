"""Losses against hard labels, and the divergence of distributions: golden values, numpy twins."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from logits import HARD_LABELS, STUDENT, random_logits
from torch.nn.functional import log_softmax

from pipeline.signals.losses import cross_entropy, kl_divergence_with_log_targets

PROPERTY = settings(max_examples=40, deadline=None, database=None)


def test_cross_entropy_has_its_golden_value() -> None:
    assert cross_entropy(STUDENT, HARD_LABELS).mean().item() == pytest.approx(0.324724700, abs=1e-9)


@PROPERTY
@given(seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 6), classes=st.integers(2, 40), smoothing=st.floats(0, 0.5))
def test_cross_entropy_equals_its_definition_written_in_numpy(
    seed: int, batch: int, classes: int, smoothing: float
) -> None:
    student, _ = random_logits(seed, batch, classes, 3)
    labels = torch.arange(batch) % classes
    powers = np.exp(student.numpy())
    targets = np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    expected = -(targets * np.log(powers / powers.sum(axis=1, keepdims=True))).sum(axis=1)
    np.testing.assert_allclose(cross_entropy(student, labels, label_smoothing=smoothing), expected, rtol=1e-9)


@PROPERTY
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 20), scale=st.floats(0.1, 30))
def test_a_divergence_is_never_negative(seed: int, classes: int, scale: float) -> None:
    student, teacher = random_logits(seed, 4, classes, scale)
    assert (kl_divergence_with_log_targets(log_softmax(teacher, dim=1), student) >= -1e-12).all()
