"""fit: it learns, it goes on after a kill to the same bits, and it stops with a message where the
loss is not a number or patience is at its end.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import (
    EPOCHS,
    STEPS,
    TRAIN,
    Killed,
    Recorder,
    assert_same,
    fit_one,
    killed_before,
    make_task,
    net,
    recipe,
    scripted,
)
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel

import pipeline.training.checkpoints
import pipeline.training.fit
import pipeline.training.trainer
from pipeline.core.errors import ModelError
from pipeline.training.batches import Batch
from pipeline.training.fit import write_reports
from pipeline.training.moving_average import MovingAverage
from pipeline.training.optimizers import LeanAdamW, LeanSGD
from pipeline.training.recipe import build_optimizer, layer_blocks, learning_rate_factor, learning_rate_shares
from pipeline.training.run import FitResult
from pipeline.training.trainer import Task


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FitResult]:
    """Returns what a run that nobody stops comes to, by optimizer."""
    results = {}
    for optimizer in ("adamw", "sgd"):
        torch.manual_seed(0)
        scratch = tmp_path_factory.mktemp("whole")
        results[optimizer] = fit_one(net(), make_task(), recipe(optimizer=optimizer), scratch)
    return results


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_loss_falls_and_the_network_learns(tmp_path: Path, optimizer: str) -> None:
    settings = recipe(epochs=8, optimizer=optimizer, learning_rate=0.02, checkpoint_seconds=1000)
    result = fit_one(net(), make_task(), settings, tmp_path)
    history = result.state.history
    assert [row["epoch"] for row in history] == list(range(1, 9))
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]
    assert result.state.best_value > 0.6  # chance is 0.25
    for weights, accuracy in ((result.last, history[-1]["val_accuracy"]), (result.best, result.state.best_value)):
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
        fit_one(net(), killed_before(step), settings, tmp_path / "killed")
    torch.manual_seed(99)  # a new process has other random numbers, and another start
    assert_same(fit_one(net(1), make_task(), settings, tmp_path / "killed"), uninterrupted[optimizer])


def test_a_run_killed_while_it_validates_goes_on_to_the_same_bits(
    uninterrupted: dict[str, FitResult], tmp_path: Path
) -> None:
    def killed(model: nn.Module) -> dict[str, float]:
        raise Killed

    torch.manual_seed(0)
    with pytest.raises(Killed):
        fit_one(net(), make_task(validate=killed), recipe(), tmp_path / "killed")
    assert_same(fit_one(net(1), make_task(), recipe(), tmp_path / "killed"), uninterrupted["adamw"])


@pytest.mark.parametrize("function", ["write_tensors", "write_sealed"])
def test_a_run_killed_while_it_saves_goes_on_to_the_same_bits(
    uninterrupted: dict[str, FitResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    write: Callable[..., None] = getattr(pipeline.training.checkpoints, function)
    calls = 0

    def killed(*arguments: Any, **named: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Killed
        write(*arguments, **named)

    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.training.checkpoints, function, killed)
        with pytest.raises(Killed):
            fit_one(net(), make_task(), recipe(), tmp_path / "killed")
    assert_same(fit_one(net(1), make_task(), recipe(), tmp_path / "killed"), uninterrupted["adamw"])


def test_a_finished_run_is_not_trained_again_and_keeps_one_checkpoint(tmp_path: Path) -> None:
    expected = fit_one(net(), make_task(), recipe(), tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert_same(fit_one(net(1), killed_before(0), recipe(), tmp_path), expected)


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_loss_that_is_not_a_number_names_the_run_and_the_epoch(tmp_path: Path, epoch: int) -> None:
    steps = iter(range(100))
    bad = make_task(
        loss=lambda model, batch: (
            cross_entropy(model(batch.inputs), batch.hard_labels)
            * (float("nan") if next(steps) == epoch * STEPS + 1 else 1.0)
        )
    )
    with pytest.raises(ModelError, match=rf"train_student@x: the training loss is nan in epoch {epoch + 1}"):
        fit_one(net(), bad, recipe(), tmp_path, name="train_student@x")


def test_weights_that_blow_up_at_the_last_step_of_an_epoch_name_the_run(tmp_path: Path) -> None:
    one_step = make_task(batches=lambda epoch, start: [next(iter(make_task().batches(0, 0)))], steps_per_epoch=1)
    settings = recipe(learning_rate=1e6, weight_decay=1e6, warmup_fraction=0.0, ema_decay=0.0)
    with pytest.raises(ModelError, match="train_student@x"):
        fit_one(net(), one_step, settings, tmp_path, name="train_student@x")


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
    result = fit_one(net(), make_task(), recipe(), tmp_path)
    last_steps = [(epoch + 1) * STEPS - 1 for epoch in range(EPOCHS)]
    expected = [0.01 * learning_rate_factor(step, EPOCHS * STEPS, recipe()) for step in last_steps]
    assert [row["learning_rate"] for row in result.state.history] == pytest.approx(expected)


def test_every_step_is_in_train_mode_even_if_validation_leaves_eval_mode(tmp_path: Path) -> None:
    model, modes = net(), []

    def loss(stepped: nn.Module, batch: Batch) -> torch.Tensor:
        modes.append({module.training for module in stepped.modules()})
        return cross_entropy(stepped(batch.inputs), batch.hard_labels)

    def validate(averaged: nn.Module) -> dict[str, float]:
        averaged.eval()
        model.eval()
        return {"accuracy": 0.5}

    fit_one(model, make_task(loss=loss, validate=validate), recipe(), tmp_path)
    assert modes == [{True}] * (EPOCHS * STEPS)


def test_without_decay_the_average_is_the_weights_themselves(tmp_path: Path) -> None:
    model = net()
    result = fit_one(model, make_task(), recipe(ema_decay=0.0), tmp_path)
    assert all(torch.equal(tensor, result.last[name]) for name, tensor in model.state_dict().items())


def test_the_average_follows_the_weights_and_forgets_the_start(tmp_path: Path) -> None:
    model, heads = net(), []

    def loss(stepped: nn.Module, batch: Batch) -> torch.Tensor:
        heads.append(model.head.weight.detach().clone())
        return cross_entropy(stepped(batch.inputs), batch.hard_labels)

    result = fit_one(model, make_task(loss=loss), recipe(ema_decay=0.6), tmp_path)
    after_steps = [*heads[1:], model.head.weight.detach()]
    average = after_steps[0]
    for done, head in enumerate(after_steps[1:], start=1):
        average = average.lerp(head, 1 - min(0.6, (1 + done) / (10 + done)))
    torch.testing.assert_close(result.last["head.weight"], average)
    assert not torch.equal(result.last["head.weight"], after_steps[-1])


class Centred(nn.Module):
    """A layer that puts a new tensor in the place of its buffer at each step, as some networks do,
    and counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.register_buffer("centre", torch.zeros(2))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("nothing", None)

    def step(self) -> None:
        with torch.no_grad():
            self.head.weight += torch.randn(2, 3)
        self.centre = self.centre + torch.randn(2)
        self.steps += 1


def test_the_average_is_that_of_torch_whatever_becomes_of_buffers() -> None:
    model = Centred()
    ours = MovingAverage(model, 0.7)
    theirs = AveragedModel(model, multi_avg_fn=move(0.7), use_buffers=True)
    for _ in range(6):
        model.step()
        ours.update()
        theirs.update_parameters(model)
    expected = theirs.module.state_dict()
    assert ours.model.state_dict().keys() == expected.keys()
    for name, tensor in ours.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    again = MovingAverage(Centred(), 0.7)
    again.load_state_dict(ours.state_dict())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.model.state_dict().items())
    assert again.state_dict()["updates"] == 6


def move(decay: float) -> Callable[..., None]:
    def move_all(averaged: Any, current: Any, num_averaged: Any) -> None:
        share = min(decay, (1 + float(num_averaged)) / (10 + float(num_averaged)))
        for ours, theirs in zip(averaged, current, strict=True):
            ours.copy_(ours.lerp(theirs, 1 - share) if ours.is_floating_point() else theirs)

    return move_all


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    model = net()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    steep = make_task(
        batches=lambda epoch, start: [next(iter(make_task().batches(0, 0)))],
        steps_per_epoch=1,
        loss=lambda stepped, batch: 1e6 * cross_entropy(stepped(batch.inputs), batch.hard_labels),
    )
    settings = recipe(
        epochs=1, optimizer="sgd", learning_rate=1.0, clip_norm=0.01, weight_decay=0.0, schedule="one_cycle"
    )
    fit_one(model, steep, settings, tmp_path)
    moved = torch.cat([(p.detach() - before[name]).flatten() for name, p in model.named_parameters()]).norm()
    assert 0 < moved <= 0.01 * 1.9 * 1.001  # Nesterov's first step is 1.9 gradients


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(pipeline.training.fit, "progress", recorder)
    return recorder


@pytest.mark.parametrize(
    ("accuracies", "patience", "epochs", "best"),
    [
        ([0.5, 0.6, 0.6, 0.5], 2, 4, 1),
        ([0.5, 0.4, 0.6, 0.5, 0.5], 2, 5, 2),
        ([0.5, 0.5], 1, 2, 0),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1, 6, 5),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.4], 1, 6, 4),
        ([0.5, 0.4, 0.4, 0.4, 0.4, 0.4], None, 6, 0),
    ],
)
def test_training_stops_when_patience_is_at_its_end(
    tmp_path: Path,
    bar: Recorder,
    capsys: pytest.CaptureFixture[str],
    accuracies: list[float],
    patience: int | None,
    epochs: int,
    best: int,
) -> None:
    settings = recipe(epochs=6, patience_epochs=patience)
    result = fit_one(net(), make_task(validate=scripted(*accuracies)), settings, tmp_path)
    assert (result.state.epoch, result.state.best_epoch) == (epochs, best)
    lasts = [0.01 * learning_rate_factor(epoch * STEPS + STEPS - 1, 6 * STEPS, settings) for epoch in range(epochs)]
    assert [row["learning_rate"] for row in result.state.history] == lasts  # the schedule of all six
    said = [line for line in capsys.readouterr().err.splitlines() if "patience" in line]
    assert len(said) == (epochs < 6)
    assert all(f"{max(accuracies):.2%} of epoch {best + 1}" in line for line in said)
    assert sum(bar.counts) == bar.total == 6 * STEPS


@pytest.mark.parametrize("step", [2, STEPS, 2 * STEPS + 1, 3 * STEPS - 1])
def test_a_run_that_is_killed_before_it_stops_goes_on_to_the_same_bits(tmp_path: Path, step: int) -> None:
    settings, accuracies = recipe(epochs=6, patience_epochs=2), (0.5, 0.4, 0.3)
    torch.manual_seed(0)
    whole = fit_one(net(), make_task(validate=scripted(*accuracies)), settings, tmp_path / "whole")
    validate = scripted(*accuracies)
    torch.manual_seed(0)
    killed = killed_before(step, validate=validate)
    with pytest.raises(Killed):
        fit_one(net(), killed, settings, tmp_path / "killed")
    torch.manual_seed(99)
    assert_same(fit_one(net(1), make_task(validate=validate), settings, tmp_path / "killed"), whole)


def test_a_run_that_has_stopped_is_not_trained_on(tmp_path: Path, bar: Recorder) -> None:
    settings = recipe(epochs=6, patience_epochs=1)
    stopped = fit_one(net(), make_task(validate=scripted(0.5, 0.5)), settings, tmp_path)
    assert_same(fit_one(net(1), killed_before(0), settings, tmp_path), stopped)
    assert sum(bar.counts) == bar.total


class Plain(nn.Module):
    """A network without batch norm and dropout: only the sum over examples counts, not how they
    come in batches."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=3)
        self.head = nn.Linear(4 * 16, 4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.tanh(self.conv(pixels.double() / 255)).flatten(1))
        return logits


def plain() -> Plain:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Plain().double()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize(("accumulate", "sizes"), [(3, [12, 12, 4]), (7, [28]), (9, [28])])
def test_batches_that_accumulate_give_the_step_of_one_large_batch(
    tmp_path: Path, optimizer: str, accumulate: int, sizes: list[int]
) -> None:
    """Compares seven batches of four images with an epoch in batches of these sizes, in float64."""
    images, labels = TRAIN.inputs[:28], TRAIN.hard_labels[:28]

    def task(sizes: list[int]) -> Task[Any]:
        batches = list(zip(images.split(sizes), labels.split(sizes), strict=True))
        return make_task(
            batches=lambda epoch, start: batches[start:],
            steps_per_epoch=len(sizes),
            loss=lambda model, batch: cross_entropy(model(batch[0]), batch[1]),
            inputs=lambda batch: batch[0],
            validate=lambda model: {"accuracy": 0.5},
        )

    results = []
    for name, parts, count in (("few", [4] * 7, accumulate), ("one", sizes, 1)):
        settings = recipe(epochs=3, optimizer=optimizer, clip_norm=0.05, accumulate_batches=count)
        results.append(fit_one(plain(), task(parts), settings, tmp_path / name))
    few, one = results
    assert [r["learning_rate"] for r in few.state.history] == [r["learning_rate"] for r in one.state.history]
    for name, weights in plain().state_dict().items():
        torch.testing.assert_close(few.last[name], one.last[name], rtol=1e-10, atol=1e-12)
        assert not torch.equal(few.last[name], weights)


@pytest.mark.parametrize("step", [3, STEPS, STEPS + 2, STEPS + 3])
def test_a_run_that_is_killed_between_batches_of_one_step_goes_on_to_the_same_bits(tmp_path: Path, step: int) -> None:
    settings = recipe(accumulate_batches=3)
    torch.manual_seed(0)
    whole = fit_one(net(), make_task(), settings, tmp_path / "whole")
    torch.manual_seed(0)
    with pytest.raises(Killed):
        fit_one(net(), killed_before(step), settings, tmp_path / "killed")
    assert_same(fit_one(net(1), make_task(), settings, tmp_path / "killed"), whole)


def test_gradients_that_wait_are_in_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags: list[str] = []
    monkeypatch.setattr(pipeline.training.trainer, "write_checkpoint", lambda folder, tag, state: tags.append(tag))
    fit_one(net(), make_task(), recipe(epochs=1, accumulate_batches=3), tmp_path)
    assert tags == ["0-3", "0-4", "1-0"]


def test_reports_hold_a_row_of_figures_per_epoch(tmp_path: Path) -> None:
    result = fit_one(net(), make_task(), recipe(), tmp_path / "scratch")
    write_reports(tmp_path / "reports/x", result, {"val": {"accuracy": 0.5}})
    with (tmp_path / "reports/x.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    read = [{key: float(value) for key, value in row.items()} for row in rows]
    assert read == [pytest.approx(row, rel=1e-5) for row in result.state.history]
    assert {"epoch", "train_loss", "learning_rate", "val_accuracy", "val_nll"} <= read[0].keys()
    metrics = json.loads((tmp_path / "reports/x.json").read_text())
    assert metrics["val"] == {"accuracy": 0.5}
    assert metrics["seconds"] >= 0


HEAD = frozenset({"head.weight", "head.bias"})


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_what_is_frozen_keeps_its_bits_so_long_and_no_longer(tmp_path: Path, optimizer: str) -> None:
    start, settings = net().state_dict(), recipe(epochs=2, freeze_epochs=1, optimizer=optimizer)
    seen: list[dict[str, torch.Tensor]] = []

    def validate(model: nn.Module) -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"accuracy": 0.5}

    fit_one(net(), make_task(validate=validate), settings, tmp_path, HEAD)
    frozen, free = seen
    for name, before in start.items():
        assert torch.equal(frozen[name], before) == (name not in HEAD), name
        assert not torch.equal(free[name], before), name  # statistics of norms, too


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("step", [2, STEPS, STEPS + 1, 2 * STEPS])
def test_a_run_that_is_killed_while_frozen_or_after_goes_on_to_the_same_bits(
    tmp_path: Path, optimizer: str, step: int
) -> None:
    settings = recipe(epochs=3, freeze_epochs=1, layer_decay=0.5, optimizer=optimizer)
    torch.manual_seed(0)
    whole = fit_one(net(), make_task(), settings, tmp_path / "whole", HEAD)
    torch.manual_seed(0)
    with pytest.raises(Killed):
        fit_one(net(), killed_before(step), settings, tmp_path / "killed", HEAD)
    torch.manual_seed(99)
    assert_same(fit_one(net(1), make_task(), settings, tmp_path / "killed", HEAD), whole)


def test_what_a_user_froze_stays_frozen(tmp_path: Path) -> None:
    model = net()
    model.conv.weight.requires_grad_(False)
    before = model.conv.weight.clone()
    fit_one(model, make_task(), recipe(freeze_epochs=1), tmp_path, HEAD)
    assert torch.equal(model.conv.weight, before)


def test_each_block_learns_at_the_rate_of_the_one_above_it_times_the_decay(tmp_path: Path) -> None:
    shares = learning_rate_shares(dict(net().named_parameters()), HEAD, 0.5)
    expected = {"head": 1.0, "second": 0.5, "norm": 0.5, "conv": 0.25}
    assert shares == {name: expected[name.partition(".")[0]] for name in shares}
    # SGD moves a weight by its own rate times its gradient.
    moved = []
    for decay in (1.0, 0.5):
        model, settings = net(), recipe(optimizer="sgd", layer_decay=decay, weight_decay=0.0, ema_decay=0.0, epochs=1)
        task = make_task(batches=lambda epoch, start: [next(iter(make_task().batches(0, 0)))], steps_per_epoch=1)
        torch.manual_seed(0)
        settings = replace(settings, schedule="one_cycle", clip_norm=1e9)
        fit_one(model, task, settings, tmp_path / f"{decay}", HEAD)
        moved.append({name: tensor - before for (name, tensor), before in _pairs(model)})
    for name, share in shares.items():
        torch.testing.assert_close(moved[1][name], share * moved[0][name], rtol=1e-3, atol=1e-7, msg=name)


def _pairs(model: nn.Module) -> list[tuple[tuple[str, torch.Tensor], torch.Tensor]]:
    """Returns parameters with what they were at the start."""
    after = [(name, parameter.detach()) for name, parameter in model.named_parameters()]
    return list(zip(after, [parameter.detach() for parameter in net().parameters()], strict=True))


@pytest.mark.parametrize(
    ("names", "blocks"),
    [
        (["conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer1.0.bn1.bias", "layer1.1.conv1.weight"], 3),
        (["network.0.0.weight", "network.0.1.bias", "network.1.0.weight"], 2),
        (["network.0.weight", "network.2.bias", "network.4.weight", "network.5.bias"], 2),
        (["pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"], 2),
        (["conv_proj.weight", "encoder.layers.encoder_layer_0.a.weight", "encoder.layers.encoder_layer_1.a.weight"], 3),
        (["features.conv0.weight", "features.denseblock1.l1.weight", "features.denseblock1.l2.weight"], 2),
        (["norm.bias", "conv.weight"], 1),
    ],
)
def test_blocks_are_what_is_numbered_and_norms_go_with_the_block_before(names: list[str], blocks: int) -> None:
    parameters = {name: torch.zeros(2) if name.endswith("bias") else torch.zeros(2, 2) for name in names}
    found = layer_blocks(parameters)
    assert sorted(name for block in found for name in block) == sorted(names)
    assert len(found) == blocks


@pytest.mark.parametrize(("lean", "original"), [(LeanAdamW, torch.optim.AdamW), (LeanSGD, torch.optim.SGD)])
def test_a_lean_optimizer_takes_the_steps_of_the_original(lean: Any, original: Any) -> None:
    def train(kind: Any) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
        optimizer = kind(model.parameters(), lr=0.1, weight_decay=0.1, fused=True)
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            model(torch.rand(6, 5)).square().sum().backward()
            optimizer.step()
        return list(model.parameters())

    for ours, theirs in zip(train(lean), train(original), strict=True):
        assert torch.equal(ours, theirs)


def test_training_does_without_the_compiler() -> None:
    script = (
        "import sys, torch; from pipeline.training.optimizers import LeanAdamW\n"
        "weight = torch.ones(2, requires_grad=True); optimizer = LeanAdamW([weight], fused=True)\n"
        "weight.sum().backward(); optimizer.step(); optimizer.zero_grad(); optimizer.load_state_dict(optimizer.state_dict())\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
