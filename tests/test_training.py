"""fit: it learns, it goes on after a kill to the same bits, and it stops with a word where the loss is not a number."""

import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_split
from torch import nn
from torch.nn.functional import cross_entropy

import pipeline.checkpoints
from pipeline.batches import Batch, num_steps, plain_batches, training_batches
from pipeline.errors import ModelError
from pipeline.inference import predict_logits
from pipeline.metrics import classification_metrics
from pipeline.training import (
    FitResult,
    FitSettings,
    Task,
    build_optimizer,
    fit,
    learning_rate_factor,
    write_reports,
)
from pipeline.views import ViewSpec

CPU = torch.device("cpu")
SPEC = ViewSpec(seed=5, pad_px=1, flip_horizontal=False)
TRAIN, VAL = make_split(64), make_split(32, seed=1)
BATCH_SIZE, EPOCHS = 16, 2
STEPS = num_steps(len(TRAIN), BATCH_SIZE)


@pytest.fixture(scope="module", autouse=True)
def unflushed() -> Iterator[None]:
    """Writes without waiting for the disk, which would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


class Net(nn.Module):
    """Convolutions in channels-last order, batch norm and dropout: statistics, random numbers and the order of the
    weights in memory are part of its state."""

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
        "ema_decay": 0.9,
        "precision": "float32",
        "checkpoint_seconds": 0,
        **changes,
    }
    return FitSettings(**arguments)


def make_task(**changes: Any) -> Task[Batch]:
    arguments: dict[str, Any] = {
        "batches": lambda epoch, start: training_batches(
            TRAIN, SPEC, view=epoch, epoch=epoch, batch_size=BATCH_SIZE, seed=1, start_step=start
        ),
        "steps_per_epoch": STEPS,
        "loss": lambda model, batch: cross_entropy(model(batch.images), batch.hard_labels),
        "pixels": lambda batch: batch.images,
        "validate": lambda model: classification_metrics(
            predict_logits(model, plain_batches(VAL, 100), CPU), VAL.hard_labels
        ),
        **changes,
    }
    return Task(**arguments)


class Killed(Exception):  # noqa: N818
    """What a test stops a run with."""


def killed_before(step: int) -> Task[Batch]:
    """A task whose batches end in a kill before a step, counted over all epochs."""
    whole = make_task()

    def batches(epoch: int, start: int) -> Iterator[Batch]:
        for number, batch in enumerate(whole.batches(epoch, start), start=epoch * STEPS + start):
            if number == step:
                raise Killed
            yield batch

    return make_task(batches=batches)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FitResult]:
    """What a run that nobody stops comes to, by optimizer."""
    results = {}
    for optimizer in ("adamw", "sgd"):
        torch.manual_seed(0)
        scratch = tmp_path_factory.mktemp("whole")
        results[optimizer] = fit(net(), make_task(), recipe(optimizer=optimizer), scratch, CPU, "run")
    return results


def assert_same(result: FitResult, expected: FitResult) -> None:
    for ours, theirs in ((result.last, expected.last), (result.best, expected.best)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert result.state.history == expected.state.history
    assert result.state.best_epoch == expected.state.best_epoch


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_loss_falls_and_the_network_learns(tmp_path: Path, optimizer: str) -> None:
    settings = recipe(epochs=8, optimizer=optimizer, learning_rate=0.02, checkpoint_seconds=1000)
    result = fit(net(), make_task(), settings, tmp_path, CPU, "run")
    history = result.state.history
    assert [row["epoch"] for row in history] == list(range(1, 9))
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]
    assert result.state.best_accuracy > 0.6  # chance is 0.25
    for weights, accuracy in ((result.last, history[-1]["val_accuracy"]), (result.best, result.state.best_accuracy)):
        model = net()
        model.load_state_dict(weights)
        assert make_task().validate(model)["accuracy"] == accuracy


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("step", [1, STEPS - 1, STEPS, STEPS + 2])
def test_a_killed_run_goes_on_to_the_same_bits(
    uninterrupted: dict[str, FitResult], tmp_path: Path, optimizer: str, step: int
) -> None:
    settings = recipe(optimizer=optimizer)
    torch.manual_seed(0)
    with pytest.raises(Killed):
        fit(net(), killed_before(step), settings, tmp_path / "killed", CPU, "run")
    torch.manual_seed(99)  # a new process has other random numbers, and another start
    assert_same(fit(net(1), make_task(), settings, tmp_path / "killed", CPU, "run"), uninterrupted[optimizer])


def test_a_run_killed_while_it_validates_goes_on_to_the_same_bits(
    uninterrupted: dict[str, FitResult], tmp_path: Path
) -> None:
    def killed(model: nn.Module) -> dict[str, float]:
        raise Killed

    torch.manual_seed(0)
    with pytest.raises(Killed):
        fit(net(), make_task(validate=killed), recipe(), tmp_path / "killed", CPU, "run")
    assert_same(fit(net(1), make_task(), recipe(), tmp_path / "killed", CPU, "run"), uninterrupted["adamw"])


@pytest.mark.parametrize("function", ["write_tensors", "write_json"])
def test_a_run_killed_while_it_saves_goes_on_to_the_same_bits(
    uninterrupted: dict[str, FitResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    write: Callable[..., None] = getattr(pipeline.checkpoints, function)
    calls = 0

    def killed(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Killed
        write(*arguments)

    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.checkpoints, function, killed)
        with pytest.raises(Killed):
            fit(net(), make_task(), recipe(), tmp_path / "killed", CPU, "run")
    assert_same(fit(net(1), make_task(), recipe(), tmp_path / "killed", CPU, "run"), uninterrupted["adamw"])


def test_a_finished_run_is_not_trained_again_and_keeps_one_checkpoint(tmp_path: Path) -> None:
    expected = fit(net(), make_task(), recipe(), tmp_path, CPU, "run")
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert_same(fit(net(1), killed_before(0), recipe(), tmp_path, CPU, "run"), expected)


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_loss_that_is_not_a_number_names_the_run_and_the_epoch(tmp_path: Path, epoch: int) -> None:
    steps = iter(range(100))
    bad = make_task(
        loss=lambda model, batch: (
            cross_entropy(model(batch.images), batch.hard_labels)
            * (float("nan") if next(steps) == epoch * STEPS + 1 else 1.0)
        )
    )
    with pytest.raises(ModelError, match=rf"train_student@x: the training loss is nan in epoch {epoch + 1}"):
        fit(net(), bad, recipe(), tmp_path, CPU, "train_student@x")


def test_weights_that_blow_up_at_the_last_step_of_an_epoch_name_the_run(tmp_path: Path) -> None:
    one_step = make_task(batches=lambda epoch, start: [next(iter(make_task().batches(0, 0)))], steps_per_epoch=1)
    settings = recipe(optimizer="sgd", learning_rate=1e38, clip_norm=1e9, warmup_fraction=0.0, ema_decay=0.0)
    with pytest.raises(ModelError, match="train_student@x"):
        fit(net(), one_step, settings, tmp_path, CPU, "train_student@x")


# Decay is a gradient to SGD, and Nesterov's first step is 1.9 gradients.
@pytest.mark.parametrize(("optimizer", "kept"), [("adamw", 1 - 0.1 * 0.5), ("sgd", 1 - 0.1 * 0.5 * 1.9)])
def test_norms_and_biases_do_not_decay(optimizer: str, kept: float) -> None:
    model = net()
    nn.init.ones_(model.conv.bias)  # type: ignore[arg-type]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    build_optimizer(model, recipe(optimizer=optimizer, learning_rate=0.1, weight_decay=0.5)).step()
    for name, parameter in model.named_parameters():
        share = kept if name in {"conv.weight", "second.weight", "head.weight"} else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * share, msg=name)


@pytest.mark.parametrize(("schedule", "start", "end"), [("cosine", 0.0, 0.0), ("one_cycle", 0.04, 1e-4)])
def test_the_learning_rate_warms_up_to_its_peak_and_falls_to_its_end(schedule: str, start: float, end: float) -> None:
    settings = recipe(schedule=schedule, warmup_fraction=0.25)
    factors = [learning_rate_factor(step, 100, settings) for step in range(100)]
    assert factors[0] == pytest.approx(start + (1 - start) / 25)
    assert factors[11] == pytest.approx(start + (1 - start) * 12 / 25)
    assert factors[24] == pytest.approx(1)
    assert factors[61] == pytest.approx(end + (1 - end) * 0.5, abs=0.02)
    assert factors[-1] == pytest.approx(end, abs=1e-12)
    assert factors[:25] == sorted(factors[:25])
    assert factors[24:] == sorted(factors[24:], reverse=True)
    cold = [learning_rate_factor(step, 100, recipe(schedule=schedule, warmup_fraction=0.0)) for step in range(100)]
    assert cold == sorted(cold, reverse=True)
    assert cold[0] > 0.999


def test_the_schedule_runs_over_all_epochs(tmp_path: Path) -> None:
    result = fit(net(), make_task(), recipe(), tmp_path, CPU, "run")
    last_steps = [(epoch + 1) * STEPS - 1 for epoch in range(EPOCHS)]
    expected = [0.01 * learning_rate_factor(step, EPOCHS * STEPS, recipe()) for step in last_steps]
    assert [row["learning_rate"] for row in result.state.history] == pytest.approx(expected)


def test_every_step_is_in_train_mode_even_if_validation_leaves_eval_mode(tmp_path: Path) -> None:
    model, modes = net(), []

    def loss(stepped: nn.Module, batch: Batch) -> torch.Tensor:
        modes.append({module.training for module in stepped.modules()})
        return cross_entropy(stepped(batch.images), batch.hard_labels)

    def validate(averaged: nn.Module) -> dict[str, float]:
        averaged.eval()
        model.eval()
        return {"accuracy": 0.5}

    fit(model, make_task(loss=loss, validate=validate), recipe(), tmp_path, CPU, "run")
    assert modes == [{True}] * (EPOCHS * STEPS)


def test_without_decay_the_average_is_the_weights_themselves(tmp_path: Path) -> None:
    model = net()
    result = fit(model, make_task(), recipe(ema_decay=0.0), tmp_path, CPU, "run")
    assert all(torch.equal(tensor, result.last[name]) for name, tensor in model.state_dict().items())


def test_the_average_follows_the_weights_and_forgets_the_start(tmp_path: Path) -> None:
    model, heads = net(), []

    def loss(stepped: nn.Module, batch: Batch) -> torch.Tensor:
        heads.append(model.head.weight.detach().clone())
        return cross_entropy(stepped(batch.images), batch.hard_labels)

    result = fit(model, make_task(loss=loss), recipe(ema_decay=0.6), tmp_path, CPU, "run")
    after_steps = [*heads[1:], model.head.weight.detach()]
    average = after_steps[0]
    for done, head in enumerate(after_steps[1:], start=1):
        average = average.lerp(head, 1 - min(0.6, (1 + done) / (10 + done)))
    torch.testing.assert_close(result.last["head.weight"], average)
    assert not torch.equal(result.last["head.weight"], after_steps[-1])


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    model = net()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    steep = make_task(
        batches=lambda epoch, start: [next(iter(make_task().batches(0, 0)))],
        steps_per_epoch=1,
        loss=lambda stepped, batch: 1e6 * cross_entropy(stepped(batch.images), batch.hard_labels),
    )
    settings = recipe(
        epochs=1, optimizer="sgd", learning_rate=1.0, clip_norm=0.01, weight_decay=0.0, schedule="one_cycle"
    )
    fit(model, steep, settings, tmp_path, CPU, "run")
    moved = torch.cat([(p.detach() - before[name]).flatten() for name, p in model.named_parameters()]).norm()
    assert 0 < moved <= 0.01 * 1.9 * 1.001  # Nesterov's first step is 1.9 gradients


def test_reports_hold_a_row_of_figures_per_epoch(tmp_path: Path) -> None:
    result = fit(net(), make_task(), recipe(), tmp_path / "scratch", CPU, "run")
    write_reports(tmp_path / "reports/x", result, {"val": {"accuracy": 0.5}})
    with (tmp_path / "reports/x.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    read = [{key: float(value) for key, value in row.items()} for row in rows]
    assert read == [pytest.approx(row, rel=1e-5) for row in result.state.history]
    assert {"epoch", "train_loss", "learning_rate", "val_accuracy", "val_nll"} <= read[0].keys()
    metrics = json.loads((tmp_path / "reports/x.json").read_text())
    assert metrics["val"] == {"accuracy": 0.5}
    assert metrics["seconds"] >= 0
