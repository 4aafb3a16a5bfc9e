"""Classes at positions: their marks against definitions, and how sure they are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.evaluation import collected
from pipeline.evaluation.collected import collect
from pipeline.evaluation.marks import MARKS
from pipeline.evaluation.marks.grid import counts_of_each
from pipeline.evaluation.marks.jackknife import contributions
from pipeline.evaluation.twins import gain_points
from pipeline.signals import pieces
from pipeline.signals.grid_metrics import confusion_of, grid_metrics, mean_iou, sureness

MARK = MARKS["grid"]
CLASSES, PX = 4, 5


def made(count: int = 40, *, noise: float = 2.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns outputs that know something of the maps, of which a tenth is unknown."""
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, CLASSES, (count, PX, PX))
    outputs = 2 * np.moveaxis(np.eye(CLASSES)[maps], 3, 1) + noise * rng.normal(size=(count, CLASSES, PX, PX))
    maps[rng.random(maps.shape) < 0.1] = -1
    return torch.from_numpy(outputs).float(), torch.from_numpy(maps).short()


def slow_miou(outputs: torch.Tensor, maps: torch.Tensor) -> float:
    """Returns the mean IoU as it is written: class by class, over the known positions."""
    said, labels, found = outputs.argmax(dim=1).numpy(), maps.numpy(), []
    for number in range(outputs.shape[1]):
        own, other = (labels == number) & (labels >= 0), (said == number) & (labels >= 0)
        if (own | other).any():
            found.append((own & other).sum() / (own | other).sum())
    return float(np.mean(found))


def test_marks_are_those_of_the_known_positions() -> None:
    outputs, maps = made()
    teacher = outputs.roll(1, 0)
    found, figures = MARK.mark(outputs, maps, teacher, None), grid_metrics(outputs, maps)
    own = found.scores
    assert own.score == own.headline == pytest.approx(slow_miou(outputs, maps))
    assert (own.accuracy, own.nll, own.ece) == (figures["accuracy"], figures["nll"], figures["ece"])
    assert own.class_iou is not None
    assert np.mean([value for value in own.class_iou if value is not None]) == pytest.approx(own.score)
    said, known = outputs.argmax(dim=1), maps >= 0
    right = [((said == c) & (maps == c)).sum() / (maps == c).sum() for c in range(CLASSES)]
    assert own.class_accuracy == pytest.approx([each.item() for each in right])
    assert own.agreement == pytest.approx((said == teacher.argmax(dim=1)).double().mean().item())
    p, q = torch.softmax(teacher.double(), dim=1), torch.softmax(outputs.double(), dim=1)
    kl = (p * (p / q).log()).sum(dim=1).mean(dim=(1, 2))
    assert torch.allclose(found.answers["kl_to_teacher"].double(), kl, atol=1e-6)
    assert own.kl_to_teacher == pytest.approx(kl.mean().item(), rel=1e-5)
    assert torch.equal(found.answers["predicted"].long(), said)
    assert found.answers["predicted"].dtype == torch.uint8
    each = [slow_miou(outputs[n : n + 1], maps[n : n + 1]) for n in range(len(maps))]
    assert found.answers["iou"].tolist() == pytest.approx(each)
    assert sum(count for _, _, count in found.confusions) == int(known.sum()) == sum(b.count for b in found.bins)
    assert (1, 2, int(((maps == 1) & (said == 2)).sum())) in found.confusions
    assert found.bins == sureness(outputs, maps).bins


def test_a_class_that_is_nowhere_has_no_figure() -> None:
    outputs, maps = made(3)
    outputs[:, 2], maps[maps == 2] = -50, 0
    own = MARK.mark(outputs, maps, None, None).scores
    assert own.class_iou is not None
    assert own.class_accuracy is not None
    assert (own.class_iou[2], own.class_accuracy[2], own.agreement, own.kl_to_teacher) == (None, None, None, None)
    assert own.score == pytest.approx(slow_miou(outputs, maps))


def test_classes_are_counted_by_image_and_by_position() -> None:
    maps = torch.tensor([[[0, 0], [2, -1]], [[0, 1], [0, 0]]], dtype=torch.int16)
    assert MARK.class_counts(maps, 4) == [2, 1, 1, 0]
    assert MARK.position_counts(maps, 4) == [5, 1, 1, 0]
    assert MARKS["categorical"].position_counts(torch.tensor([0]), 4) is None


def test_contributions_are_the_jackknife_with_every_sample_left_out_in_turn() -> None:
    outputs, maps = made(7)
    maps[maps == 3] = 0
    outputs[:, 3] = -50
    maps[0, 0, 0] = 3  # a class that one sample alone has
    value, everyone = slow_miou(outputs, maps), torch.arange(7)
    without = [slow_miou(outputs[everyone != n], maps[everyone != n]) for n in range(7)]
    expected = 7 * value - 6 * np.array(without)
    found = contributions(*counts_of_each(outputs, maps))
    assert found.mean().item() == pytest.approx(value)
    assert found.numpy() - found.mean().item() == pytest.approx(expected - expected.mean())
    assert contributions(*counts_of_each(outputs[:1], maps[:1])).tolist() == pytest.approx(
        [slow_miou(outputs[:1], maps[:1])]
    )


def test_the_error_of_a_gain_is_that_of_other_test_samples() -> None:
    def sides(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        outputs, maps = made(100, noise=1.5, seed=seed)
        noise = torch.from_numpy(np.random.default_rng(1000 + seed).normal(size=outputs.shape)).float()
        return outputs, outputs + noise, maps

    def gain(student: torch.Tensor, twin: torch.Tensor, maps: torch.Tensor) -> float:
        return 100 * (mean_iou(confusion_of(student, maps)) - mean_iou(confusion_of(twin, maps)))

    truth = np.std([gain(*sides(seed)) for seed in range(150)])
    student, twin, maps = sides(0)
    found = gain_points(*(contributions(*counts_of_each(each, maps))[None] for each in (student, twin)))
    assert found.mean == pytest.approx(gain(student, twin, maps))
    assert found.standard_error == pytest.approx(truth, rel=0.25)


def test_marks_are_the_same_for_some_samples_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, maps = made(11)
    whole = MARK.mark(outputs, maps, outputs.flip(0), None)
    monkeypatch.setattr(pieces, "VALUES_AT_ONCE", 2 * CLASSES * PX * PX)
    monkeypatch.setattr("pipeline.signals.grid_metrics._COUNTED", 3)
    found = MARK.mark(outputs, maps, outputs.flip(0), None)
    assert found.scores.score == whole.scores.score
    assert found.scores.agreement == pytest.approx(whole.scores.agreement)
    assert torch.equal(found.evidence, whole.evidence)
    for name, values in whole.answers.items():
        assert torch.allclose(found.answers[name].double(), values.double()), name


@pytest.mark.parametrize("most", [1 << 28, 0], ids=["memory", "file"])
def test_outputs_are_collected_in_memory_or_in_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(collected, "MOST_HELD_BYTES", most)
    outputs, _ = made(7)
    found = collect(outputs.split(3), 7, tmp_path / "evaluate")
    assert torch.equal(found, outputs)
    assert (tmp_path / "evaluate").exists() == (most == 0)
    assert not list(tmp_path.glob("evaluate/*"))
