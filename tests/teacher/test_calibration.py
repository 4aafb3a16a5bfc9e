"""The calibration temperature: it undoes a scaling, never does harm, and stays within its range."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.signals.metrics import nll
from pipeline.teacher.calibration import fit_temperature

PROPERTY = settings(max_examples=40, deadline=None, database=None)


def calibrated(classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits whose probabilities are exactly the shares of the labels beside them."""
    rng = np.random.default_rng(seed)
    logits, labels = [], []
    for _ in range(6):
        counts = rng.integers(1, 12, classes)
        counts[rng.integers(classes)] += 40
        logits += [np.log(counts / counts.sum())] * int(counts.sum())
        labels += np.repeat(np.arange(classes), counts).tolist()
    return torch.from_numpy(np.array(logits)), torch.tensor(labels)


@PROPERTY
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 10), scale=st.floats(0.06, 19))
def test_the_scale_of_calibrated_logits_is_found(seed: int, classes: int, scale: float) -> None:
    logits, labels = calibrated(classes, seed)
    assert fit_temperature(logits * scale, labels) == pytest.approx(scale, rel=1e-5)


@PROPERTY
@given(
    seed=st.integers(0, 2**32 - 1), samples=st.integers(1, 50), classes=st.integers(2, 10), scale=st.floats(0.01, 50)
)
def test_it_never_raises_the_likelihood_loss(seed: int, samples: int, classes: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, scale, (samples, classes)))
    labels = torch.from_numpy(rng.integers(0, classes, samples))
    temperature = fit_temperature(logits, labels)
    assert 0.05 <= temperature <= 20
    assert nll(logits / temperature, labels) <= nll(logits, labels) * (1 + 1e-9) + 1e-9


def test_it_stops_at_the_ends_of_its_range() -> None:
    logits, labels = torch.eye(3), torch.arange(3)
    assert fit_temperature(logits, labels) == pytest.approx(0.05)  # always right: the sharper, the better
    assert fit_temperature(logits, labels.roll(1)) == pytest.approx(20)  # always wrong: the flatter, the better
