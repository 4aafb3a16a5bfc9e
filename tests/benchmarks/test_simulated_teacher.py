"""The simulated teacher: it has the promised figures, and gives the same labels each time."""

import pytest
import torch

from benchmarks.simulated_teacher import simulated_logits, statistics, truncation_kl


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    return simulated_logits(8000)


def test_the_statistics_are_those_of_an_imagenet_teacher(logits: torch.Tensor) -> None:
    assert logits.shape == (8000, 1000)
    assert logits.dtype == torch.float32
    figures = statistics(logits)
    assert figures["entropy_nats"] == pytest.approx(0.47, abs=0.03)
    assert figures["top10_mass"] == pytest.approx(0.988, abs=0.002)
    assert 0.85 < figures["top1_mass"] < 0.9
    assert 0.3 < figures["top1_above_0.99"] < 0.5
    assert figures["top1_below_0.5"] > 0.05


def test_every_class_is_the_top_of_some_labels(logits: torch.Tensor) -> None:
    counts = logits.argmax(dim=1).bincount(minlength=1000)
    assert (counts > 0).float().mean() > 0.99
    assert counts.max() < 30


def test_a_class_conditional_tail_helps_but_does_not_tell_all(logits: torch.Tensor) -> None:
    assert truncation_kl(logits, 10, class_prior=False) == pytest.approx(0.0355, rel=0.1)
    halves = truncation_kl(logits, 16, class_prior=False) / truncation_kl(logits, 10, class_prior=False)
    assert 0.45 < halves < 0.6
    same_top = logits[logits.argmax(dim=1) == logits[0].argmax()].softmax(dim=1)
    order = same_top.topk(11, dim=1).indices[:, 1:]
    shared = [len(set(order[0].tolist()) & set(other.tolist())) for other in order[1:]]
    assert 2 < sum(shared) / len(shared) < 8  # of the ten classes behind the first


def test_more_kept_classes_come_nearer(logits: torch.Tensor) -> None:
    for class_prior in (False, True):
        divergences = [truncation_kl(logits[:2000], kept, class_prior=class_prior) for kept in (1, 3, 10)]
        assert divergences[0] > divergences[1] > divergences[2] > 0


def test_labels_depend_on_the_seed_and_not_on_how_many_are_drawn(logits: torch.Tensor) -> None:
    assert torch.equal(simulated_logits(5000), logits[:5000])
    assert not torch.equal(simulated_logits(10, seed=1), logits[:10])


def test_blocks_differ() -> None:
    rows = simulated_logits(13 * 4096, num_classes=4)[::4096]
    assert len(rows.unique(dim=0)) == 13


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_other_numbers_of_classes(num_classes: int) -> None:
    logits = simulated_logits(100, num_classes, seed=3)
    assert logits.shape == (100, num_classes)
    assert logits.isfinite().all()
    assert 0 < statistics(logits)["entropy_nats"] < 1
