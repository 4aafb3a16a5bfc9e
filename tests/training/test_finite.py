"""A loss or a gradient that is no finite number is found soon; the last good checkpoint stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from runs import STEPS, fit_one, make_task, recipe
from torch import nn
from torch.nn.functional import cross_entropy

import pipeline.training.finite
from pipeline.core.errors import ModelError
from pipeline.training.batches import Batch
from pipeline.training.checkpoints import read_checkpoint
from pipeline.training.finite import LOOK_EVERY, FiniteWatch
from pipeline.training.task import Task

LONG = 1000  # steps of an epoch


class Small(nn.Module):
    """A network whose steps take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(144, 4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(pixels.flatten(1).float() / 255)
        return logits


def long_task(bad_step: int, fault: str, seen: list[int]) -> Task[Batch]:
    """Returns a task of long epochs in which something is wrong at one step."""
    batches = list(make_task().batches(0, 0))

    def endless(epoch: int, start: int) -> Iterator[Batch]:
        for step in range(start, LONG):
            seen.append(step)
            yield batches[step % STEPS]

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        value = cross_entropy(model(batch.inputs), batch.hard_labels)
        if seen[-1] != bad_step:
            return value
        if fault == "gradient":  # of a root at 0, which is infinite
            return value + (0 * value).sqrt()
        return value * float(fault)

    return make_task(batches=endless, steps_per_epoch=LONG, loss=loss)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("nan", "the training loss is nan in epoch 1, by step"),
        ("inf", "the training loss is (nan|inf) in epoch 1, by step"),
        ("gradient", "in epoch 1, by step"),
    ],
)
def test_it_is_found_within_100_steps(tmp_path: Path, fault: str, told: str) -> None:
    seen: list[int] = []
    with pytest.raises(ModelError, match=f"^x: .*{told}.*learning_rate"):
        fit_one(Small(), long_task(3, fault, seen), recipe(checkpoint_seconds=1e6), tmp_path, name="x")
    assert seen[-1] <= 3 + LOOK_EVERY <= 103


def test_it_is_found_after_some_seconds_where_steps_are_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.training.finite, "_SECONDS", 0.0)
    seen: list[int] = []
    with pytest.raises(ModelError, match="the training loss is nan"):
        fit_one(Small(), long_task(3, "nan", seen), recipe(checkpoint_seconds=1e6), tmp_path)
    assert seen[-1] == 3


@pytest.mark.parametrize("fault", ["nan", "gradient"])
def test_the_last_good_checkpoint_stays(tmp_path: Path, fault: str) -> None:
    with pytest.raises(ModelError):
        fit_one(Small(), long_task(3, fault, []), recipe(checkpoint_seconds=0), tmp_path)
    state = read_checkpoint(tmp_path)
    assert state["run"]["step"] == 3
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_gradients_alone_are_named_and_the_device_is_read_every_100_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, look = [], FiniteWatch.finds_fault
    monkeypatch.setattr(FiniteWatch, "finds_fault", lambda watch, loss: reads.append(len(seen)) or look(watch, loss))
    seen: list[int] = []
    with pytest.raises(ModelError, match="the gradients are no finite numbers in epoch 1, by step 300 of 1,000"):
        fit_one(Small(), long_task(299, "gradient", seen), recipe(checkpoint_seconds=1e6), tmp_path)
    assert reads == [100, 200, 300]
