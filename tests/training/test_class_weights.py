"""Rare classes weigh more in the loss of hard labels, and nothing changes where they do not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_split
from project import small_params, write_params

from pipeline.core.config import load_section
from pipeline.core.errors import ConfigError
from pipeline.data.budget import MemoryBudget
from pipeline.signals import SIGNALS
from pipeline.student.batches import LabelledBatch
from pipeline.student.losses import build_loss
from pipeline.student.objective import Objective
from pipeline.teacher.settings import TrainTeacher
from pipeline.teacher.task import TeacherData, TeacherTask
from pipeline.training.batches import Batch
from pipeline.training.hard_labels import class_weights, hard_label_loss

CPU = torch.device("cpu")
LABELS = torch.tensor([0] * 16 + [1] * 4 + [-1] * 5)


@pytest.mark.parametrize(
    ("balance", "ratio", "shares"),
    [(0.5, 2.0, (16 / 24, 8 / 24)), (1.0, 4.0, (0.5, 0.5))],
    ids=["square root", "every class alike"],
)
def test_a_class_weighs_by_its_count_and_the_mean_weight_is_one(
    balance: float, ratio: float, shares: tuple[float, float]
) -> None:
    weights = class_weights(LABELS, balance, CPU)
    assert weights is not None
    assert (weights[1] / weights[0]).item() == pytest.approx(ratio)
    of_class = [(weights[number] * (number == LABELS).sum()).item() / 20 for number in (0, 1)]
    assert of_class == pytest.approx(shares)


def test_without_balance_there_are_no_weights() -> None:
    assert class_weights(LABELS, 0.0, CPU) is None


def test_mixed_views_weigh_each_label_by_its_own_class_and_unlabelled_ones_stay_zero() -> None:
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    own, partners, shares = torch.tensor([0, 1, -1]), torch.tensor([1, 1, -1]), torch.tensor([0.75, 0.5, 0.5])
    batch = Batch(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), own, partners, shares)
    found = hard_label_loss(logits, batch, 0.0, torch.tensor([0.5, 2.0]))
    nats = -torch.log_softmax(logits, dim=1)
    expected = [0.75 * 0.5 * nats[0, 0] + 0.25 * 2.0 * nats[0, 1], 2.0 * nats[1, 1], torch.tensor(0.0)]
    torch.testing.assert_close(found, torch.stack(expected))


def test_pixels_weigh_by_the_class_and_a_view_is_the_mean_of_its_known_ones() -> None:
    random = torch.Generator().manual_seed(0)
    maps = torch.randint(-1, 3, (600, 2, 4), generator=random, dtype=torch.int16)
    maps[0] = -1
    weights = class_weights(maps, 1.0, CPU, SIGNALS["grid"])
    assert weights is not None
    counts = torch.tensor([(maps == number).sum() for number in range(3)])
    torch.testing.assert_close(weights * counts / counts.sum(), torch.full((3,), 1 / 3))
    logits = torch.randn(600, 3, 2, 4, generator=random)
    batch = Batch(torch.zeros(600, 1, 2, 4, dtype=torch.uint8), maps)
    found = hard_label_loss(logits, batch, 0.0, weights, SIGNALS["grid"])
    nats = -torch.log_softmax(logits.double(), dim=1)
    for view in range(0, 600, 50):
        known = [(int(c), y, x) for y in range(2) for x in range(4) if (c := maps[view, y, x]) >= 0]
        each = [float(weights[c] * nats[view, c, y, x]) for c, y, x in known]
        assert found[view].item() == pytest.approx(sum(each) / max(1, len(each)), rel=1e-5)


def settings(folder: Path, balance: float) -> TrainTeacher:
    params = small_params()
    params["train_teacher"]["class_balance"] = balance
    params["train_teacher"]["fit"]["batch_size"] = 20
    return load_section(TrainTeacher, "train_teacher", write_params(folder, params))


def test_teacher_and_student_weigh_hard_labels_and_not_soft_ones(tmp_path: Path) -> None:
    split = make_split(20)
    split.hard_labels[:] = torch.tensor([0] * 16 + [1] * 4)
    data = TeacherData(split, split, MemoryBudget(0, 20, "not streamed"))

    class Says(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.arange(4.0).repeat(len(images), 1)

    nats = -torch.log_softmax(torch.arange(4.0), dim=0).numpy()
    task = TeacherTask(settings(tmp_path, 1.0), data, CPU)
    (batch,) = task.batches(0, 0)
    assert task.loss(Says(), batch).item() == pytest.approx(np.mean(nats[:2]))
    plain = TeacherTask(settings(tmp_path, 0.0), data, CPU)
    assert plain.loss(Says(), batch).item() == pytest.approx(0.8 * nats[0] + 0.2 * nats[1])
    loss, weights = build_loss({"kind": "kd", "standardize": False}, "loss"), class_weights(split.hard_labels, 1.0, CPU)
    labelled = LabelledBatch(batch.inputs, batch.hard_labels, soft_targets=torch.log_softmax(torch.rand(20, 4), dim=1))
    whole, soft = (Objective(hard, 1.0, 1.0, 0.0, loss, weights)(Says(), labelled, CPU).item() for hard in (2.0, 0.0))
    assert whole - soft == pytest.approx(2 * np.mean(nats[:2]), rel=1e-5)


@pytest.mark.parametrize("balance", [-0.1, 1.1, True])
def test_a_balance_outside_0_to_1_is_refused(tmp_path: Path, balance: float) -> None:
    with pytest.raises(ConfigError, match=r"train_teacher\.class_balance"):
        settings(tmp_path, balance)
