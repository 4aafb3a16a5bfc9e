"""Short training runs for tests: a small network whose state has something of every kind, its task,
ways to stop it.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from conftest import make_split
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.models.predict import predict_logits
from pipeline.signals.metrics import classification_metrics
from pipeline.training.batches import Batch, num_steps
from pipeline.training.epochs import Epoch
from pipeline.training.fit import fit
from pipeline.training.recipe import FitSettings
from pipeline.training.run import FitResult, Workplace
from pipeline.training.trainer import Task, Trainer
from pipeline.views.operations.pad_crop import PadCrop
from pipeline.views.spec import ViewSpec

CPU = torch.device("cpu")
SPEC = ViewSpec(seed=5, plain_first=False, operations=(PadCrop(pad_px=1),))
TRAIN, VAL = make_split(64), make_split(32, seed=1)
BATCH_SIZE, EPOCHS = 16, 2
STEPS = num_steps(len(TRAIN), BATCH_SIZE)


class Net(nn.Module):
    """A network of convolutions in channels-last order, batch norm and dropout: statistics, random
    numbers and the order of the weights in memory are part of its state."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(8 * 36, 4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.norm(self.second(self.conv(pixels.float() / 255))))
        logits: torch.Tensor = self.head(self.dropout(features.flatten(1)))
        return logits


def net(seed: int = 0) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net().to(memory_format=torch.channels_last)


def recipe(**changes: Any) -> FitSettings:
    arguments: dict[str, Any] = {
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "warmup_fraction": 0.2,
        "clip_norm": 5.0,
        "accumulate_batches": 1,
        "patience_epochs": None,
        "freeze_epochs": 0,
        "layer_decay": 1.0,
        "ema_decay": 0.9,
        "precision": "float32",
        "compile": False,
        "checkpoint_seconds": 0,
        **changes,
    }
    return FitSettings(**arguments)


def make_task(**changes: Any) -> Task[Any]:
    """Returns a small task; `changes` are functions that take the place of its methods."""
    arguments: dict[str, Any] = {
        "batches": lambda epoch, start: Epoch(
            TRAIN, SPEC, view=epoch, number=epoch, batch_size=BATCH_SIZE, seed=1
        ).batches(start),
        "steps_per_epoch": STEPS,
        "loss": lambda model, batch: cross_entropy(model(batch.inputs), batch.hard_labels),
        "inputs": lambda batch: batch.inputs,
        "validate": lambda model: classification_metrics(
            predict_logits(model, VAL.in_order(100), CPU), VAL.hard_labels
        ),
        **changes,
    }
    parts = {name: staticmethod(part) if callable(part) else part for name, part in arguments.items()}
    task: Task[Any] = type("MadeTask", (Task,), parts)()
    return task


def fit_one(
    model: nn.Module,
    task: Task[Any],
    settings: FitSettings,
    scratch: Path,
    head: Collection[str] = (),
    name: str = "run",
) -> FitResult:
    """Trains one network on the CPU, or goes on with it."""
    (result,) = fit([Trainer(model, task, settings, Workplace(scratch, CPU, name), head)])
    return result


class Killed(Exception):  # noqa: N818
    """The exception that a test stops a run with."""


def killed_before(step: int, **changes: Any) -> Task[Batch]:
    """Returns a task whose batches end in a kill before a step, counted over all epochs."""
    whole = make_task()

    def batches(epoch: int, start: int) -> Iterator[Batch]:
        for number, batch in enumerate(whole.batches(epoch, start), start=epoch * STEPS + start):
            if number == step:
                raise Killed
            yield batch

    return make_task(batches=batches, **changes)


def scripted(*accuracies: float) -> Callable[[nn.Module], dict[str, float]]:
    """Returns a validation that gives these, one after the other."""
    left = iter(accuracies)
    return lambda model: {"accuracy": next(left)}


def assert_same(result: FitResult, expected: FitResult) -> None:
    for ours, theirs in ((result.last, expected.last), (result.best, expected.best)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert result.state.history == expected.state.history
    assert result.state.best_epoch == expected.state.best_epoch


class Recorder:
    """A stand-in for `progress`: what was announced and what came."""

    def __init__(self) -> None:
        self.name, self.total, self.counts = "", 0, [0]

    @contextmanager
    def __call__(self, name: str, total: int, unit: str, done: int = 0) -> Iterator[Callable[[int], None]]:
        self.name, self.total, self.counts = name, total, [done]
        yield self.counts.append
