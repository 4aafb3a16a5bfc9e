"""Accuracy by class, by pair of classes and by rank, against plain numpy."""

import numpy as np
import pytest
import torch

from pipeline.evaluation.breakdown import class_accuracies, class_counts, confusions, top_k_accuracy
from pipeline.signals.metrics import accuracy

CASES = [(seed, samples, classes) for seed, samples, classes in [(0, 1, 2), (1, 60, 3), (2, 500, 10), (3, 40, 100)]]


@pytest.mark.parametrize(("seed", "samples", "classes"), CASES)
def test_breakdowns_equal_their_definitions(seed: int, samples: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels, said = rng.integers(0, classes, samples), rng.integers(0, classes, samples)
    table = np.zeros((classes, classes), dtype=int)
    np.add.at(table, (labels, said), 1)
    predicted, hard_labels = torch.from_numpy(said).int(), torch.from_numpy(labels)
    expected = [(a, p, table[a, p]) for a in range(classes) for p in range(classes) if table[a, p]]
    assert confusions(predicted, hard_labels) == expected
    assert class_counts(hard_labels, classes) == table.sum(axis=1).tolist()
    shares = class_accuracies(predicted, hard_labels, classes)
    for number, share in enumerate(shares):
        own = labels == number
        assert share == ((said[own] == number).mean() if own.any() else None)


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_the_hard_label_is_among_the_k_largest(k: int) -> None:
    rng = np.random.default_rng(k)
    logits, labels = rng.normal(size=(300, 10)), rng.integers(0, 10, 300)
    ranked = np.argsort(-logits, axis=1)[:, :k]
    expected = (ranked == labels[:, None]).any(axis=1).mean()
    assert top_k_accuracy(torch.from_numpy(logits), torch.from_numpy(labels), k) == pytest.approx(expected)
    if k == 1:
        assert accuracy(torch.from_numpy(logits), torch.from_numpy(labels)) == pytest.approx(expected)


def test_a_network_that_says_the_same_of_everything_is_not_taken_for_a_good_one() -> None:
    labels = torch.arange(10).repeat(5)
    assert top_k_accuracy(torch.zeros(50, 10), labels, 5) == 0.5
