"""fit: the one training loop, for teacher and students alike.

It takes callables and knows nothing of stores or labels. Everything that decides a result is a pure function of the
settings and the step, or is in the checkpoint: a run that was killed goes on to the same bits on the same CPU.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as settings_dataclass
from torch import nn
from torch.optim.swa_utils import AveragedModel

from pipeline.artifacts import say, write_bytes, write_json
from pipeline.checkpoints import read_checkpoint, write_checkpoint
from pipeline.config import STRICT
from pipeline.devices import Precision, choose_precision
from pipeline.errors import ModelError
from pipeline.progress import progress

AnyBatch = TypeVar("AnyBatch")
Fraction = Annotated[float, Field(ge=0, lt=1)]


@settings_dataclass(frozen=True, kw_only=True, config=STRICT)
class FitSettings:
    """The training recipe; every key stands in `params.yaml`."""

    epochs: NonNegativeInt
    batch_size: PositiveInt
    accumulate_batches: PositiveInt
    optimizer: Literal["adamw", "sgd"]
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    schedule: Literal["cosine", "one_cycle"]
    warmup_fraction: Fraction
    clip_norm: PositiveFloat
    ema_decay: Fraction
    patience_epochs: PositiveInt | None
    precision: Precision
    checkpoint_seconds: NonNegativeFloat


@dataclass(frozen=True)
class Task(Generic[AnyBatch]):
    """What is learnt: batches of an epoch from a step on, the loss of one of them, and the measure of success.

    `pixels` gives a batch's images (for the precision trial); `validate` gives at least `accuracy`.
    """

    batches: Callable[[int, int], Iterable[AnyBatch]]
    steps_per_epoch: int
    loss: Callable[[nn.Module, AnyBatch], torch.Tensor]
    pixels: Callable[[AnyBatch], torch.Tensor]
    validate: Callable[[nn.Module], dict[str, float]]


@dataclass
class RunState:
    """Where a run stands; all of it is in the checkpoint."""

    epoch: int = 0
    step: int = 0  # within the epoch
    seconds: float = 0.0
    precision: str = ""
    best_accuracy: float = -1.0
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class FitResult:
    """Weights (the moving average) after the last and after the best epoch, and a row of figures per epoch."""

    last: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor]
    state: RunState


def learning_rate_factor(step: int, total: int, settings: FitSettings) -> float:
    """The share of the peak learning rate at a step (0-based) of `total`.

    `cosine`: a linear warm-up over `warmup_fraction` of the steps, then half a cosine down to 0. `one_cycle`: the
    same, but starting from 1/25 and ending at 1/10,000 of the peak.

    References:
        Ilya Loshchilov, Frank Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2016, arXiv 1608.03983.
        Leslie N. Smith, Nicholay Topin, "Super-Convergence", 2017, arXiv 1708.07120, section 3.
    """
    start, end = (0.04, 1e-4) if settings.schedule == "one_cycle" else (0.0, 0.0)
    warmup = settings.warmup_fraction * total
    position = step + 1
    if position < warmup:
        return start + (1 - start) * position / warmup
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * (position - warmup) / max(total - warmup, 1)))


def build_optimizer(model: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum 0.9; norms and biases (one-dimensional) are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True, fused=True)


def fit(
    model: nn.Module, task: Task[AnyBatch], settings: FitSettings, scratch: Path, device: torch.device, name: str
) -> FitResult:
    """Trains `model`; goes on from the checkpoint in `scratch` if there is one, and leaves its own there.

    Raises ModelError where the loss stops being a finite number.
    """
    run = Trainer(model, task, settings, scratch, device, name)
    run.resume()
    done = run.state.epoch * task.steps_per_epoch + run.state.step
    with progress(name, settings.epochs * task.steps_per_epoch, "step", done) as on_steps:
        while run.state.epoch < settings.epochs:
            run.train_epoch(on_steps)
    return run.result()


def write_reports(name: Path, result: FitResult, metrics: dict[str, Any]) -> None:
    """`<name>.tsv`, a row of figures per epoch for `dvc plots`, and `<name>.json`, for `dvc metrics`."""
    columns = list(result.state.history[0]) if result.state.history else ["epoch"]
    lines = ["\t".join(columns), *("\t".join(f"{row[c]:.6g}" for c in columns) for row in result.state.history)]
    write_bytes(name.with_suffix(".tsv"), ("\n".join(lines) + "\n").encode())
    write_json(name.with_suffix(".json"), metrics | {"seconds": round(result.state.seconds, 1)})


class Trainer(Generic[AnyBatch]):
    """The state of one training run."""

    def __init__(
        self,
        model: nn.Module,
        task: Task[AnyBatch],
        settings: FitSettings,
        scratch: Path,
        device: torch.device,
        name: str,
    ) -> None:
        self.task, self.settings, self.device, self.name = task, settings, device, name
        self.model = model.to(device)
        self.optimizer = build_optimizer(self.model, settings)
        self.average = AveragedModel(self.model, multi_avg_fn=self._move_average, use_buffers=True)
        self.state = RunState()
        # MPS has no float64.
        self.loss_sum = torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        self.best = _weights(self.average.module)
        self._scratch = scratch
        self._saved_at = self._tick = time.monotonic()

    def train_epoch(self, on_steps: Callable[[int], object]) -> None:
        self.model.train()
        for batch in self._batches():
            self.step(batch)
            on_steps(1)
            if time.monotonic() - self._saved_at > self.settings.checkpoint_seconds:
                self.save()
        self._end_epoch()

    def step(self, batch: AnyBatch) -> None:
        """One update of the weights and of their moving average."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(self.state.step)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.state.precision == "bfloat16"):
            loss = self.task.loss(self.model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.average.update_parameters(self.model)
        self.loss_sum += loss.detach()
        self.state.step += 1

    def _learning_rate(self, step: int) -> float:
        """At a step of the current epoch."""
        per_epoch, epochs = self.task.steps_per_epoch, self.settings.epochs
        factor = learning_rate_factor(self.state.epoch * per_epoch + step, epochs * per_epoch, self.settings)
        return self.settings.learning_rate * factor

    def _batches(self) -> Iterator[AnyBatch]:
        for batch in self.task.batches(self.state.epoch, self.state.step):
            if not self.state.precision:
                images = self.task.pixels(batch)
                chosen = choose_precision(self.settings.precision, self.model, images, self.device)
                self.state.precision = str(chosen).removeprefix("torch.")
            yield batch

    def _end_epoch(self) -> None:
        state = self.state
        train_loss = float(self.loss_sum) / self.task.steps_per_epoch
        if not math.isfinite(train_loss):
            mend = "lower its learning_rate in params.yaml"
            raise ModelError(self.name, f"the training loss is {train_loss} in epoch {state.epoch + 1}", mend=mend)
        measured = self.task.validate(self.average.module)
        if not all(map(math.isfinite, measured.values())):
            mend = "lower its learning_rate in params.yaml"
            raise ModelError(self.name, f"validation gives {measured} in epoch {state.epoch + 1}", mend=mend)
        if measured["accuracy"] > state.best_accuracy:
            state.best_accuracy, state.best_epoch = measured["accuracy"], state.epoch
            self.best = _weights(self.average.module)
        last = self._learning_rate(self.task.steps_per_epoch - 1)
        row = {"epoch": state.epoch + 1, "train_loss": train_loss, "learning_rate": last}
        state.history.append(row | {f"val_{key}": value for key, value in measured.items()})
        state.epoch, state.step = state.epoch + 1, 0
        self.loss_sum.zero_()
        self.save()
        left = state.seconds / state.epoch * (self.settings.epochs - state.epoch)
        say(
            f"{self.name}: epoch {state.epoch}/{self.settings.epochs}, train loss {train_loss:.4f}, "
            f"val accuracy {measured['accuracy']:.2%}, {state.seconds:.0f} s, about {left:.0f} s left"
        )

    def _move_average(self, averaged: Any, current: Any, num_averaged: Any) -> None:
        """Moves the average towards the weights; early on by more, so that it forgets where it started."""
        done = float(num_averaged)
        decay = min(self.settings.ema_decay, (1 + done) / (10 + done))
        if averaged[0].is_floating_point():  # they come grouped by dtype
            torch._foreach_lerp_(averaged, current, 1 - decay)
        else:
            torch._foreach_copy_(averaged, current)

    def save(self) -> None:
        """Writes the checkpoint."""
        now = time.monotonic()
        self.state.seconds += now - self._tick
        self._tick = self._saved_at = now
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "loss_sum": self.loss_sum,
            "rng": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if self._on_cuda else []},
            "run": asdict(self.state),
        }
        write_checkpoint(self._scratch, f"{self.state.epoch}-{self.state.step}", state)

    def resume(self) -> None:
        """Takes the state of the checkpoint, if there is one."""
        state = read_checkpoint(self._scratch)
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.best = state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        self._restore_layout()
        self.loss_sum.copy_(state["loss_sum"])
        torch.set_rng_state(state["rng"]["cpu"])
        if self._on_cuda:
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])
        self.state = RunState(**state["run"])
        say(f"{self.name}: going on from epoch {self.state.epoch + 1}, step {self.state.step}")

    def _restore_layout(self) -> None:
        """Puts optimizer state back into its parameters' memory order, which a file does not keep: fused optimizers
        walk both side by side in memory."""
        for parameter, values in self.optimizer.state.items():
            for key, value in values.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    values[key] = torch.empty_like(parameter).copy_(value)

    def result(self) -> FitResult:
        return FitResult(_weights(self.average.module), self.best, self.state)

    @property
    def _on_cuda(self) -> bool:
        return self.device.type == "cuda"


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
