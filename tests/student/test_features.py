"""Losses of stored embeddings: against twins in float64, and what relations must not depend on."""

from itertools import permutations

import pytest
import torch
from torch import Tensor

from pipeline.student.feature_losses import FEATURE_LOSSES, build_feature_loss, rkd_angles
from pipeline.student.feature_losses.cosine import cosine_loss
from pipeline.student.feature_losses.mse import feature_mse
from pipeline.student.feature_losses.rkd import angle_loss, distance_loss
from pipeline.student.feature_losses.sp import similarity_loss

B, OWN, STORED = 7, 5, 9


def random(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def huber(difference: float) -> float:
    return 0.5 * difference**2 if abs(difference) < 1 else abs(difference) - 0.5


def twin_distance(features: Tensor, stored: Tensor) -> float:
    pairs = list(permutations(range(len(features)), 2))
    sides = [[float((side[i] - side[j]).norm()) for i, j in pairs] for side in (features, stored)]
    means = [sum(side) / len(side) for side in sides]
    return sum(huber(a / means[0] - b / means[1]) for a, b in zip(*sides, strict=True)) / len(pairs)


def twin_angle(features: Tensor, stored: Tensor) -> float:
    def cosine(side: Tensor, i: int, j: int, k: int) -> float:
        one, other = side[i] - side[j], side[k] - side[j]
        return float(one @ other / (one.norm() * other.norm()))

    triplets = list(permutations(range(len(features)), 3))
    return sum(huber(cosine(features, *t) - cosine(stored, *t)) for t in triplets) / len(triplets)


def twin_similarity(features: Tensor, stored: Tensor) -> float:
    sides = []
    for side in (features, stored):
        products = torch.stack([torch.stack([one @ other for other in side]) for one in side])
        sides.append(torch.stack([row / row.norm() for row in products]))
    return float((sides[0] - sides[1]).square().sum() / len(features) ** 2)


@pytest.mark.parametrize(
    ("loss", "twin"),
    [(distance_loss, twin_distance), (angle_loss, twin_angle), (similarity_loss, twin_similarity)],
    ids=["distance", "angle", "sp"],
)
def test_relations_are_those_of_their_twins(loss, twin) -> None:  # type: ignore[no-untyped-def]
    features, stored = random(B, OWN, 1), random(B, STORED, 2) * 3 + 1
    assert float(loss(features, stored)) == pytest.approx(twin(features.double(), stored.double()), rel=1e-4)


def test_vectors_are_compared_as_published() -> None:
    features, stored = random(B, STORED, 1), random(B, STORED, 2)
    one, other = features.double(), stored.double()
    cosines = [float(a @ b / (a.norm() * b.norm())) for a, b in zip(one, other, strict=True)]
    assert float(cosine_loss(features, stored)) == pytest.approx(1 - sum(cosines) / B, rel=1e-5)
    assert float(feature_mse(features, stored)) == pytest.approx(float((one - other).square().mean()), rel=1e-5)


@pytest.mark.parametrize("loss", [distance_loss, angle_loss])
def test_rkd_sees_neither_rotation_nor_scale_nor_place(loss) -> None:  # type: ignore[no-untyped-def]
    stored = random(B, STORED, 2)
    rotation = torch.linalg.qr(random(STORED, STORED, 3)).Q
    assert float(loss(stored @ rotation * 7 + 2, stored)) == pytest.approx(0, abs=1e-6)
    assert float(loss(random(B, OWN, 1), stored)) > 1e-3


@pytest.mark.parametrize("scale", [0.1, 1.0])  # of the noise: 1 has differences beyond 1
@pytest.mark.parametrize("loss", [distance_loss, angle_loss])
def test_the_gradient_of_relations_is_that_of_their_values(loss, scale: float) -> None:  # type: ignore[no-untyped-def]
    stored = random(B, OWN, 2).double()
    features = (stored + scale * random(B, OWN, 1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda vectors: loss(vectors, stored), features)


def test_angles_are_compared_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    features, stored = random(B, OWN, 1).requires_grad_(), random(B, STORED, 2)
    whole = angle_loss(features, stored)
    monkeypatch.setattr(rkd_angles, "_AT_ONCE", 3 * B**2)
    losses = [whole, angle_loss(features, stored)]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, features)[0] for loss in losses))


def test_the_gradient_of_angles_passes_over_examples_that_are_the_same() -> None:
    features, stored = random(B, OWN, 1).double(), random(B, STORED, 2).double()
    features[3] = features[1]
    free = torch.arange(B)[(torch.arange(B) != 1) & (torch.arange(B) != 3)]

    def loss(moved: Tensor) -> Tensor:
        return angle_loss(features.index_copy(0, free, moved), stored)

    assert torch.autograd.gradcheck(loss, features[free].requires_grad_())


@pytest.mark.parametrize("kind", FEATURE_LOSSES)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_gradients_are_finite_where_examples_are_the_same(kind: str, rows: int) -> None:
    loss = build_feature_loss({"kind": kind}, "test")
    features = torch.ones(rows, STORED)
    features[rows // 2 :] = 0.0  # some are 0, and some alike
    features.requires_grad_()
    value = loss(features, torch.ones(rows, STORED))
    value.backward()  # type: ignore[no-untyped-call]
    assert value.isfinite()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_angles_of_groups_are_the_mean_by_their_sizes() -> None:
    features, stored = random(8, OWN, 1), random(8, STORED, 2)
    row = {"kind": "rkd", "distance_weight": 0.0, "angle_weight": 2.0, "angle_group": 5}
    found = build_feature_loss(row, "test")(features, stored)
    parts = [angle_loss(features[:5], stored[:5]), angle_loss(features[5:], stored[5:])]
    torch.testing.assert_close(found, 2 * (parts[0] * 5 + parts[1] * 3) / 8)
