"""Peers: records have the published sizes and decode to the labels that their students see."""

import itertools
import math

import numpy as np
import pytest
import torch

from benchmarks.peers import DenseFloat16, Layout, TopK, fkd, lpqld, peers, tinyvit
from pipeline.signals.losses import kl_divergence_with_log_targets


def teacher(labels: int = 40, classes: int = 1000, spread: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    logits = spread * torch.randn(labels, classes, generator=generator, dtype=torch.float64)
    return torch.log_softmax(logits, dim=1)


def mean_kl(log_probs: torch.Tensor, layout: Layout) -> float:
    decoded = layout.decode(layout.encode(log_probs), log_probs.shape[1])
    return kl_divergence_with_log_targets(log_probs, decoded.double()).mean().item()


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (lpqld(10), 40),
        (tinyvit(10), 44),
        (tinyvit(100), 404),
        (fkd(5, 32), 57),
        (fkd(5, 16), 29),
        (fkd(10, 32), 97),
        (fkd(10, 16), 49),
        (DenseFloat16(1000), 2000),
    ],
)
def test_a_record_has_the_published_size(layout: Layout, expected: int) -> None:
    records = layout.encode(teacher())
    assert layout.record_bytes == expected
    assert records.dtype == np.uint8
    assert records.shape == (40, expected)


@pytest.mark.parametrize("layout", [tinyvit(10), fkd(5, 16), fkd(5, 32), fkd(10, 16)], ids=lambda layout: layout.name)
def test_kept_classes_come_back_and_the_others_share_the_rest(layout: TopK) -> None:
    log_probs = teacher()
    decoded = layout.decode(layout.encode(log_probs), 1000).double().exp()
    kept = log_probs.topk(layout.kept, dim=1).indices
    assert decoded.sum(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    exact = log_probs.exp().gather(1, kept)
    assert (decoded.gather(1, kept) / exact - 1).abs().max() < 2e-3
    others = torch.ones_like(decoded).scatter(1, kept, 0).bool()
    share = decoded[others].view(len(decoded), -1)
    expected = (1 - exact.sum(dim=1, keepdim=True)) / share.shape[1]
    assert (share / expected - 1).abs().max() < 0.02


def test_dense_logits_come_back() -> None:
    log_probs = teacher()
    decoded = DenseFloat16(1000).decode(DenseFloat16(1000).encode(log_probs), 1000)
    assert decoded.exp().sum(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    assert (decoded - log_probs).abs().max() < 0.02
    assert mean_kl(log_probs, DenseFloat16(1000)) < 1e-5


def test_more_classes_come_nearer() -> None:
    log_probs = teacher()
    divergences = [mean_kl(log_probs, tinyvit(kept)) for kept in (1, 3, 5, 10, 100)]
    assert all(more > fewer > 0 for more, fewer in itertools.pairwise(divergences))
    assert mean_kl(log_probs, fkd(10, 16)) == pytest.approx(divergences[3], rel=1e-6)


def test_no_probability_is_zero_for_very_sure_labels() -> None:
    log_probs = torch.log_softmax(torch.tensor([[60.0, 20.0, 0.0, -5.0] + [-30.0] * 16]).double(), dim=1)
    for layout in peers(20):
        decoded = layout.decode(layout.encode(log_probs), 20)
        assert decoded.isfinite().all(), layout.name
        assert decoded.argmax() == 0
        assert decoded.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_records_are_plain_little_endian_bytes() -> None:
    log_probs = torch.tensor([[0.125, 0.625, 0.25]]).double().log()
    record = tinyvit(2).encode(log_probs)[0].tobytes()
    assert record[4:] == np.array([1, 2], "<i2").tobytes() + np.array([0.625, 0.25], "<f2").tobytes()
    decoded = tinyvit(2).decode(np.frombuffer(record, np.uint8)[None], 3)
    assert decoded[0].tolist() == pytest.approx([math.log(p) for p in (0.125, 0.625, 0.25)], abs=1e-6)


def test_class_numbers_above_2048_are_rounded_in_16_bit_floats_alone() -> None:
    log_probs = torch.log_softmax(torch.nn.functional.one_hot(torch.tensor([2049]), 3000).double() * 9, dim=1)
    for layout, expected in ((tinyvit(5), 2049), (fkd(5, 32), 2049), (fkd(5, 16), 2048)):
        assert layout.decode(layout.encode(log_probs), 3000).argmax() == expected


def test_logits_without_a_tail_are_the_softmax_of_the_kept_ones() -> None:
    log_probs, layout = teacher(), lpqld(10)
    read = layout.decode(layout.encode(log_probs), 1000).double()
    kept = log_probs.topk(10, dim=1)
    assert torch.allclose(read.gather(1, kept.indices), torch.log_softmax(kept.values, dim=1), atol=0.02)
    assert read.exp().topk(10, dim=1).values.sum(dim=1).min() > 0.999
    assert mean_kl(log_probs, layout) > mean_kl(log_probs, tinyvit(10))
