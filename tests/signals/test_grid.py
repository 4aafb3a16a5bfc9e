"""Classes at positions: of one position it is one class of several, and figures are counts."""

import numpy as np
import pytest
import torch

from pipeline.signals import SIGNALS, signal_named
from pipeline.signals.grid_metrics import confusion_of, ious, mean_iou, sureness
from pipeline.signals.metrics import ece, nll

GRID, CATEGORICAL = signal_named("grid"), signal_named("categorical")


def some(seed: int = 0, samples: int = 7, classes: int = 4, px: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    outputs = 2 * torch.randn(samples, classes, px, px, generator=generator)
    return outputs, torch.randint(-1, classes, (samples, px, px), generator=generator, dtype=torch.int16)


def rows(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.movedim(1, -1).flatten(0, -2)


def test_one_position_alone_is_one_class_of_several() -> None:
    outputs, maps = some(samples=50, px=1)
    maps = maps.clamp(min=0)
    others, _ = some(1, samples=50, px=1)
    flat, labels = outputs[:, :, 0, 0], maps[:, 0, 0].long()
    other = others[:, :, 0, 0]
    for name in ("accuracy", "nll", "ece"):
        assert GRID.metrics(outputs, maps)[name] == pytest.approx(CATEGORICAL.metrics(flat, labels)[name])
    assert torch.allclose(GRID.kl_of_each(outputs, others), CATEGORICAL.kl_of_each(flat, other))
    assert GRID.agreement(outputs, others) == CATEGORICAL.agreement(flat, other)
    assert torch.allclose(GRID.hard_loss(outputs, maps, 0.1), CATEGORICAL.hard_loss(flat, labels, 0.1))
    assert GRID.nll_slope(outputs, maps, 1.3) == pytest.approx(CATEGORICAL.nll_slope(flat, labels, 1.3))
    assert torch.equal(GRID.class_counts(maps), CATEGORICAL.class_counts(labels))


def test_figures_are_counted_over_known_positions() -> None:
    outputs, maps = some()
    predicted, labels = outputs.argmax(dim=1).numpy(), maps.numpy()
    known = labels >= 0
    expected = []
    for number in range(outputs.shape[1]):
        both = known & (predicted == number) & (labels == number)
        either = known & ((predicted == number) | (labels == number))
        expected.append(both.sum() / either.sum())
    assert ious(confusion_of(outputs, maps)).tolist() == pytest.approx(expected)
    found = GRID.metrics(outputs, maps)
    assert found["miou"] == GRID.score(outputs, maps) == pytest.approx(np.mean(expected))
    of_known = rows(outputs)[maps.flatten() >= 0], maps.flatten()[maps.flatten() >= 0].long()
    assert (found["nll"], found["ece"]) == (pytest.approx(nll(*of_known)), pytest.approx(ece(*of_known)))
    assert sum(each.count for each in sureness(outputs, maps).bins) == int(known.sum())


def test_a_class_that_is_nowhere_does_not_count() -> None:
    outputs, maps = torch.zeros(2, 3, 2, 2), torch.zeros(2, 2, 2, dtype=torch.int16)
    outputs[:, 0] = 5
    assert mean_iou(confusion_of(outputs, maps)) == 1
    assert ious(confusion_of(outputs, maps)).isnan().tolist() == [False, True, True]
    assert mean_iou(confusion_of(outputs, maps - 1)) == 0  # nothing is known


def test_an_image_counts_the_same_whatever_is_known_of_it() -> None:
    outputs, maps = some()
    maps[0] = -1
    maps[1, 1:] = -1
    losses = GRID.hard_loss(outputs, maps, 0.0)
    assert losses[0] == 0
    first_row = outputs[1, :, 0].T[maps[1, 0] >= 0], maps[1, 0][maps[1, 0] >= 0].long()
    assert losses[1].item() == pytest.approx(torch.nn.functional.cross_entropy(*first_row).item())


def test_values_that_are_stored_are_compared_position_by_position() -> None:
    outputs, _ = some()
    values = GRID.values(outputs, 2.0)
    assert torch.allclose(values.exp().sum(dim=1), torch.ones(7, 6, 6))
    assert torch.allclose(GRID.quick_values(outputs, 2.0), values)
    assert GRID.divergence(values, values).abs().max() < 1e-6
    expected = CATEGORICAL.divergence(rows(values), rows(GRID.values(outputs.flip(0), 2.0)))
    found = GRID.divergence(values, GRID.values(outputs.flip(0), 2.0))
    assert torch.allclose(found, expected.reshape(7, 36).mean(dim=1), atol=1e-6)
    mean = GRID.mean([values, GRID.values(outputs.flip(1), 2.0)], [0.25, 0.75])
    assert torch.allclose(mean.exp(), 0.25 * values.exp() + 0.75 * GRID.values(outputs.flip(1), 2.0).exp(), atol=1e-6)


def test_chance_is_what_shuffled_predictions_come_to() -> None:
    outputs, maps = some(samples=400)
    shuffled = outputs[torch.randperm(400, generator=torch.Generator().manual_seed(1))]
    assert GRID.chance(outputs, maps) == pytest.approx(GRID.score(shuffled, maps), abs=0.01)


def test_every_signal_has_its_name() -> None:
    assert {kind: signal.kind for kind, signal in SIGNALS.items()} == {kind: kind for kind in SIGNALS}
