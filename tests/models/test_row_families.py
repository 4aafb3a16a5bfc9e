"""Families for rows: finite logits for any row, and they learn what they are there for."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pipeline.core.errors import PipelineError
from pipeline.models.families import build, check_kind, families_for

SIZES = [5, 40, 3]
FAMILIES = {
    "mlp_small": {"width": 32, "depth": 1},
    "deepfm_small": {"width": 32, "depth": 1, "embedding": 8},
}
EACH = pytest.mark.parametrize(("name", "settings"), FAMILIES.items(), ids=list(FAMILIES))


def built(name: str, settings: dict[str, Any], classes: int = 2, sizes: list[int] = SIZES) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(name, settings, classes, sizes)


@EACH
def test_any_row_has_finite_logits(name: str, settings: dict[str, Any]) -> None:
    network = built(name, settings, classes=3).eval()
    rows = torch.tensor([[0, 0, 0], [1, 1, 1], [size - 1 for size in SIZES]])
    logits = network(rows)
    assert logits.shape == (3, 3)
    assert torch.isfinite(logits).all()


@EACH
def test_a_row_has_the_same_logits_alone(name: str, settings: dict[str, Any]) -> None:
    network = built(name, settings).eval()
    rows = torch.stack([torch.randint(size, (20,)) for size in SIZES], dim=1)
    assert torch.allclose(network(rows)[3:4], network(rows[3:4]), atol=1e-6)


@EACH
def test_what_goes_with_a_pair_of_values_is_learned(name: str, settings: dict[str, Any]) -> None:
    network = built(name, settings)
    rows = torch.stack([torch.randint(size, (4000,), generator=torch.Generator().manual_seed(1)) for size in SIZES], 1)
    labels = (rows[:, 0] + rows[:, 2]) % 2  # neither column says anything alone
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        loss = F.cross_entropy(network(rows), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (network.eval()(rows).argmax(dim=1) == labels).double().mean() > 0.98


def test_pairs_are_the_products_of_all_pairs_of_embeddings() -> None:
    network = built("deepfm_small", FAMILIES["deepfm_small"]).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.zero_()
    rows = torch.tensor([[3, 17, 2]])
    a, b, c = network.tables(rows)[0]
    expected = network.second(a * b + a * c + b * c)
    assert torch.allclose(network(rows)[0], expected, atol=1e-5)


def test_families_are_for_their_kind() -> None:
    assert families_for("row") == ["mlp_small", "deepfm_small"]
    with pytest.raises(PipelineError, match="'deepfm_small': is for rows, and the data is images"):
        check_kind("deepfm_small", "image")
