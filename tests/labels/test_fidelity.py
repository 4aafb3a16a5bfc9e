"""Fidelity: parts merge to the whole in any order, and the figures are those of the labels."""

import json
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.labels.fidelity import NUM_BINS, Fidelity, KlTally

PROPERTY = settings(max_examples=40, deadline=None, database=None)
SEED = st.integers(0, 2**32 - 1)


def kl_values(seed: int, count: int) -> torch.Tensor:
    """Divergences over many orders of magnitude, from 1e-8 to 100 nats."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.exp(rng.uniform(np.log(1e-8), np.log(100), count)))


def fidelity_of(seed: int, labels: int, temperatures: tuple[float, ...] = (1.0, 4.0)) -> Fidelity:
    """Returns the fidelity of labels that have nothing to do with their teacher."""
    exact, decoded = log_probs(seed, labels), log_probs(seed + 1, labels)
    return Fidelity.of(
        {t: torch.log_softmax(exact / t, dim=1) for t in temperatures},
        {t: torch.log_softmax(decoded / t, dim=1) for t in temperatures},
    )


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
def test_a_percentile_is_at_most_a_bin_too_high(seed: int, count: int, share: float) -> None:
    values = kl_values(seed, count)
    tally = KlTally.of(values)
    exact = np.quantile(values.numpy(), share, method="inverted_cdf")
    assert exact * (1 - 1e-9) <= tally.percentile(share) <= exact * np.exp(1 / 25) * (1 + 1e-9)
    assert tally.max_nats == values.max().item()


@pytest.mark.parametrize("values", [[0.0, 0.0], [1e-30, 1e-12], [1e-9], [-1e-17, 0.0]])
def test_labels_that_are_all_but_exact_are_in_the_first_bin(values: list[float]) -> None:
    tally = KlTally.of(torch.tensor(values, dtype=torch.float64))
    assert tally.bins == {0: len(values)}
    assert tally.percentile(0.5) == tally.max_nats == max(0.0, *values)
    assert tally.total_nats == sum(max(0.0, value) for value in values)


def test_what_no_bin_holds_is_told_by_the_largest() -> None:
    tally = KlTally.of(torch.tensor([1.0, 500.0, 1e5, 1e12], dtype=torch.float64))
    assert tally.bins == {int(25 * np.log(1e9)): 1, NUM_BINS - 1: 3}
    assert tally.percentile(0.25) == pytest.approx(1, rel=0.041)
    assert tally.percentile(0.5) == tally.percentile(1.0) == 1e12


def test_the_bins_are_those_of_the_format() -> None:
    edges = 1e-9 * np.exp(np.arange(NUM_BINS) / 25)
    assert KlTally.of(torch.from_numpy(edges * (1 + 1e-9))).bins == dict.fromkeys(range(NUM_BINS), 1)
    below = KlTally.of(torch.from_numpy(edges[1:] * (1 - 1e-9)))
    assert below.bins == dict.fromkeys(range(NUM_BINS - 1), 1)


def test_labels_that_are_exact_have_no_divergence_and_agree() -> None:
    exact = {1.0: log_probs(0, 50), 2.0: log_probs(1, 50)}
    summary = Fidelity.of(exact, exact).summary()
    assert summary["num_labels"] == 50
    assert summary["top1_agreement"] == 1
    for figures in summary["kl_nats"].values():
        assert figures == pytest.approx({"mean": 0, "p999": 0, "max": 0}, abs=1e-14)


def test_the_summary_is_what_the_labels_say() -> None:
    exact, decoded = log_probs(0, 2000), log_probs(1, 2000)
    p, q = exact.double().numpy(), decoded.double().numpy()
    kl = (np.exp(p) * (p - q)).sum(axis=1)
    summary = Fidelity.of({2.5: exact}, {2.5: decoded}).summary()
    assert summary.keys() == {"num_labels", "top1_agreement", "kl_nats"}
    assert summary["num_labels"] == 2000
    assert summary["top1_agreement"] == (p.argmax(1) == q.argmax(1)).mean()
    found = summary["kl_nats"]["2.5"]
    assert found["mean"] == pytest.approx(kl.mean())
    assert found["max"] == pytest.approx(kl.max())
    assert found["p999"] == pytest.approx(np.quantile(kl, 0.999, method="inverted_cdf"), rel=0.041)


def test_the_direction_is_from_the_teacher_to_the_label() -> None:
    sure, unsure = torch.tensor([[0.99, 0.01]]).log(), torch.tensor([[0.5, 0.5]]).log()
    there = Fidelity.of({1.0: sure}, {1.0: unsure}).summary()["kl_nats"]["1"]["mean"]
    assert there == pytest.approx(0.99 * np.log(0.99 / 0.5) + 0.01 * np.log(0.01 / 0.5), rel=1e-5)


def test_a_record_comes_back_from_json_with_every_bit() -> None:
    fidelity = Fidelity.of(
        {1.0: log_probs(0, 30), 4.0: log_probs(1, 30)}, {1.0: log_probs(2, 30), 4.0: log_probs(3, 30)}
    )
    assert Fidelity.from_dict(json.loads(json.dumps(fidelity.to_dict()))) == fidelity


@PROPERTY
@given(
    seed=SEED,
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    temperatures=st.sampled_from([(1.0,), (2.0, 1.0), (4.0, 1.0, 10.0, 2.5)]),
)
def test_parts_come_back_from_arrays_with_every_bit(
    seed: int, sizes: list[int], temperatures: tuple[float, ...]
) -> None:
    parts = [fidelity_of(seed + number, size, temperatures) for number, size in enumerate(sizes)]
    arrays = Fidelity.to_arrays(parts)
    assert tuple(arrays) == Fidelity.ARRAYS
    counts, nats, labels = arrays.values()
    assert (counts.dtype, nats.dtype, labels.dtype) == (np.uint32, np.float64, np.uint32)
    assert counts.shape == (len(parts), len(temperatures), NUM_BINS)
    assert nats.shape == (len(parts), len(temperatures), 2)
    assert (counts.sum(axis=2) == labels[:, :1]).all()
    assert labels.tolist() == [[part.num_labels, part.num_agreeing] for part in parts]
    again = Fidelity.from_arrays(arrays, temperatures)
    assert again == parts
    assert list(again[0].by_temperature) == [f"{t:g}" for t in temperatures]
    # What the manifest says follows from the arrays alone, whatever the order of the parts.
    whole = json.dumps(Fidelity.merge(parts).summary())
    assert json.dumps(Fidelity.merge(again).summary()) == whole
    assert json.dumps(Fidelity.merge(reversed(again)).summary()) == whole


def test_no_parts_are_no_arrays_of_labels() -> None:
    arrays = Fidelity.to_arrays([])
    assert {name: len(array) for name, array in arrays.items()} == dict.fromkeys(Fidelity.ARRAYS, 0)
    assert Fidelity.from_arrays(arrays, [1.0, 2.0]) == []


def test_arrays_of_other_temperatures_are_refused() -> None:
    arrays = Fidelity.to_arrays([fidelity_of(0, 5)])
    for temperatures in ([1.0], [1.0, 2.0, 4.0]):
        with pytest.raises(ValueError, match="another number"):
            Fidelity.from_arrays(arrays, temperatures)
    with pytest.raises(ValueError, match="zip"):
        Fidelity.from_arrays(arrays | {"fidelity_labels": np.zeros((2, 2), dtype=np.uint32)}, [1.0, 4.0])


def test_a_part_without_labels_adds_nothing() -> None:
    # A store that took labels over from another has such a part.
    part = fidelity_of(0, 30)
    empty = Fidelity({t: KlTally(0, 0.0, 0.0, {}) for t in part.by_temperature}, 0)
    merged = Fidelity.merge([empty, part, empty])
    assert merged == part
    assert merged.summary() == part.summary()
    assert Fidelity.from_arrays(Fidelity.to_arrays([empty, part]), [1.0, 4.0]) == [empty, part]


def test_agreement_is_counted_at_the_first_temperature_and_ties_go_to_the_first_class() -> None:
    exact = torch.tensor([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [0.6, 0.3, 0.1]]).log()
    decoded = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.5, 0.4], [0.3, 0.6, 0.1]]).log()
    fidelity = Fidelity.of({2.0: exact, 1.0: exact.flip(1)}, {2.0: decoded, 1.0: decoded})
    assert (fidelity.num_labels, fidelity.num_agreeing) == (3, 2)
    assert list(fidelity.by_temperature) == ["2", "1"]
