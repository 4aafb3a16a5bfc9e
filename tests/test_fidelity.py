"""Fidelity: parts merge to the whole in any order, and the figures are those of the labels."""

import json
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.fidelity import Fidelity, KlTally

PROPERTY = settings(max_examples=40, deadline=None, database=None)
SEED = st.integers(0, 2**32 - 1)


def kl_values(seed: int, count: int) -> torch.Tensor:
    """Divergences over many orders of magnitude, from 1e-8 to 100 nats."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.exp(rng.uniform(np.log(1e-8), np.log(100), count)))


def log_probs(seed: int, labels: int, classes: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed % 2**31)
    return torch.log_softmax(3 * torch.randn(labels, classes, generator=generator, dtype=torch.float64), dim=1)


@PROPERTY
@given(seed=SEED, sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_merged_parts_are_the_whole(seed: int, sizes: list[int]) -> None:
    values = kl_values(seed, sum(sizes))
    whole, merged = KlTally.of(values), KlTally.merge([KlTally.of(part) for part in values.split(sizes)])
    assert (merged.count, merged.max_nats, merged.bins) == (whole.count, whole.max_nats, whole.bins)
    assert [merged.percentile(p) for p in (0.1, 0.5, 0.999)] == [whole.percentile(p) for p in (0.1, 0.5, 0.999)]
    assert merged.total_nats == pytest.approx(whole.total_nats, rel=1e-14)


@PROPERTY
@given(seed=SEED, parts=st.integers(2, 8), order=st.randoms(use_true_random=False))
def test_the_order_of_the_parts_changes_no_bit(seed: int, parts: int, order: Random) -> None:
    fidelities = [
        Fidelity.of(
            {1.0: log_probs(seed + i, 7), 4.0: log_probs(seed + i, 7)},
            {1.0: log_probs(seed - i, 7), 4.0: log_probs(seed - i, 7)},
        )
        for i in range(parts)
    ]
    first = Fidelity.merge(fidelities).to_dict()
    order.shuffle(fidelities)
    assert json.dumps(Fidelity.merge(fidelities).to_dict()) == json.dumps(first)


@PROPERTY
@given(seed=SEED, count=st.integers(1, 300), share=st.sampled_from([0.01, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_percentile_is_at_most_one_percent_too_high(seed: int, count: int, share: float) -> None:
    values = kl_values(seed, count)
    tally = KlTally.of(values)
    exact = np.quantile(values.numpy(), share, method="inverted_cdf")
    assert exact * (1 - 1e-9) <= tally.percentile(share) <= exact * 1.0101
    assert tally.max_nats == values.max().item()


def test_labels_that_are_exact_have_no_divergence_and_agree() -> None:
    exact = {1.0: log_probs(0, 50), 2.0: log_probs(1, 50)}
    summary = Fidelity.of(exact, exact).summary()
    assert summary["top1_agreement"] == 1
    for figures in summary["kl_nats"].values():
        assert figures == pytest.approx({"mean": 0, "p999": 0, "max": 0}, abs=1e-14)


def test_the_summary_is_what_the_labels_say() -> None:
    exact, decoded = log_probs(0, 2000), log_probs(1, 2000)
    p, q = exact.double().numpy(), decoded.double().numpy()
    kl = (np.exp(p) * (p - q)).sum(axis=1)
    summary = Fidelity.of({2.5: exact}, {2.5: decoded}).summary()
    assert summary["top1_agreement"] == (p.argmax(1) == q.argmax(1)).mean()
    found = summary["kl_nats"]["2.5"]
    assert found["mean"] == pytest.approx(kl.mean())
    assert found["max"] == pytest.approx(kl.max())
    assert found["p999"] == pytest.approx(np.quantile(kl, 0.999, method="inverted_cdf"), rel=0.011)


def test_the_direction_is_from_the_teacher_to_the_label() -> None:
    sure, unsure = torch.tensor([[0.99, 0.01]]).log(), torch.tensor([[0.5, 0.5]]).log()
    there = Fidelity.of({1.0: sure}, {1.0: unsure}).summary()["kl_nats"]["1"]["mean"]
    assert there == pytest.approx(0.99 * np.log(0.99 / 0.5) + 0.01 * np.log(0.01 / 0.5), rel=1e-5)


def test_a_record_comes_back_from_json_with_every_bit() -> None:
    fidelity = Fidelity.of(
        {1.0: log_probs(0, 30), 4.0: log_probs(1, 30)}, {1.0: log_probs(2, 30), 4.0: log_probs(3, 30)}
    )
    assert Fidelity.from_dict(json.loads(json.dumps(fidelity.to_dict()))) == fidelity
