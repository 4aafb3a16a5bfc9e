"""One training run, step by step, with exact resume.

Everything that decides a result is a pure function of the settings and the step, or is in the
checkpoint: a run that was killed goes on to the same bits on the same CPU, and so does a run among
others.

Several processes may train one network (`pipeline.training.team`), each with its share of every
batch. They come to the same network as one process, except for the rounding of sums, and for
dropout, whose random numbers each draws for itself. The first writes the checkpoint, and any number
of processes goes on from it. As many as before come to the same bits where two add up their
gradients (the sums of more may be rounded otherwise).
"""

import math
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Generic

import torch
from torch import nn

from pipeline.core.errors import DataError, ModelError
from pipeline.core.progress import say
from pipeline.core.shortage import is_out_of_memory, memory_asked
from pipeline.core.stopping import is_asked_to_stop
from pipeline.models.faults import naming_faults
from pipeline.models.precision import choose_precision, computing_in
from pipeline.signals import figure_words
from pipeline.training.checkpoints import read_checkpoint, write_checkpoint
from pipeline.training.finite import FiniteWatch
from pipeline.training.moving_average import MovingAverage
from pipeline.training.recipe import Backbone, FitSettings, build_optimizer, learning_rate_factor
from pipeline.training.run import FitResult, RunState, Workplace
from pipeline.training.task import AnyBatch, Task

_DIVERGED = "lower its learning_rate in params.yaml"


class Trainer(Generic[AnyBatch]):
    """The state of one training run, from the checkpoint in `scratch` if there is one.

    Its random numbers (dropout) go on from those of the moment when it is made, whatever others
    draw meanwhile.

    Args:
        head: The names of the parameters that are never frozen and learn at the full rate; who
            `spares_head` needs it.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task[AnyBatch],
        settings: FitSettings,
        workplace: Workplace,
        head: Collection[str] = (),
    ) -> None:
        self.task, self.settings, self.name = task, settings, workplace.name
        self._scratch, self._team, self._where = workplace.scratch, workplace.team, workplace.where
        self.device = device = workplace.device
        self.model = self._replica = model.to(device)
        self.optimizer = build_optimizer(self.model, settings, head)
        self._backbone = Backbone(self.model, head)
        self.average = MovingAverage(self.model, settings.ema_decay)
        self._parameters = list(self.model.parameters())
        self.state = RunState()
        # MPS has no float64.
        self.loss_sum = torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        self._watch = FiniteWatch(self._team, device)
        self.best = _weights(self.average.model)
        self._saved_at = self._tick = time.monotonic()
        self._unsaved = 0  # updates
        self._is_ready = False
        self._generators = _generator_states(device)
        self._resume()

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience is at its end."""
        return self.state.epoch >= self.settings.epochs or self._out_of_patience

    @property
    def _out_of_patience(self) -> bool:
        patience = self.settings.patience_epochs
        return patience is not None and self.state.epoch - (self.state.best_epoch + 1) >= patience

    @contextmanager
    def turn(self, waited: float = 0.0) -> Iterator[None]:
        """Makes the process's random numbers those of this run, and counts its time."""
        self.state.seconds += waited
        self._tick = time.monotonic()
        _set_generator_states(self._generators, self.device)
        yield
        self._generators = _generator_states(self.device)
        self._count_time()

    def begin_epoch(self) -> None:
        """Puts the network into train mode, except what is frozen.

        Raises ModelError where that is all of it.
        """
        self.model.train()
        if self.settings.freeze_epochs:
            self._backbone.freeze(self.state.epoch < self.settings.freeze_epochs)
        if not any(parameter.requires_grad for parameter in self._parameters):
            found = f"none of the network's {len(self._parameters)} parameters can be trained (requires_grad)"
            raise ModelError(self._where or self.name, found, fix="leave some free, or import it with fit.epochs: 0")
        self._replica = self._team.replicate(self.model)

    def step(self, batch: AnyBatch) -> None:
        """Adds a batch to the gradients; with the last one of `accumulate_batches`, moves the
        weights.
        """
        if not self._is_ready:
            self._make_ready()
        first = self.state.step // self.settings.accumulate_batches * self.settings.accumulate_batches
        if self.state.step == first:
            self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        try:
            with (
                naming_faults(self.model, self._where or self.name),
                self._team.step(self._replica, last=self.between_updates),
            ):
                with computing_in(self.state.precision, self.device):
                    loss = self.task.loss(self._replica, batch)
                together = min(self.settings.accumulate_batches, self.task.steps_per_epoch - first)
                (loss if together == 1 else loss / together).backward()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # Not halved by itself: batch norm would see other batches, and a twin might see whole
            # ones.
            found = f"a batch does not fit in the memory of {self.device}: a step asks for {memory_asked(error)}"
            fix = "halve fit.batch_size and double fit.accumulate_batches"
            raise ModelError(self.name, found, fix=fix) from error
        self.loss_sum += loss.detach()
        if self.between_updates:
            self._update()

    @property
    def between_updates(self) -> bool:
        """Whether no gradients wait for more batches."""
        step = self.state.step
        return step % self.settings.accumulate_batches == 0 or step == self.task.steps_per_epoch

    def _update(self) -> None:
        """Makes one step of the optimizer, and of the weights' moving average."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate() * group["lr_share"]
        self._watch.note(nn.utils.clip_grad_norm_(self._parameters, self.settings.clip_norm))
        self.optimizer.step()
        self.average.update()
        self._unsaved += 1
        if self._watch.is_due:
            self._check_finite()

    def _check_finite(self) -> None:
        """Raises ModelError where a loss of the epoch, or a gradient, was no finite number."""
        if not self._watch.finds_fault(self.loss_sum):
            return
        loss = float(self._team.mean(self.loss_sum)) / self.task.steps_per_epoch
        found = "the gradients are no finite numbers" if math.isfinite(loss) else f"the training loss is {loss}"
        step = f"by step {self.state.step:,} of {self.task.steps_per_epoch:,}"
        raise ModelError(self.name, f"{found} in epoch {self.state.epoch + 1}, {step}", fix=_DIVERGED)

    def _learning_rate(self) -> float:
        """Returns the learning rate of the update that the last batch belongs to."""
        accumulate = self.settings.accumulate_batches
        per_epoch = -(-self.task.steps_per_epoch // accumulate)
        update = self.state.epoch * per_epoch + (self.state.step - 1) // accumulate
        return self.settings.learning_rate * learning_rate_factor(
            update, self.settings.epochs * per_epoch, self.settings
        )

    def _make_ready(self) -> None:
        """Chooses the number format and compiles, before the first step of this process."""
        if not self.state.precision:
            # Machines may differ in what they have.
            wanted = self.settings.precision
            self.state.precision = self._team.ask_first(lambda: choose_precision(wanted, self.model, self.device))
        if self.settings.compile:
            self.model.compile()
        self._is_ready = True

    def end_epoch(self) -> None:
        """Validates, notes the figures and saves."""
        state = self.state
        self._check_finite()
        train_loss = float(self._team.mean(self.loss_sum)) / self.task.steps_per_epoch
        validated = self.task.validate(self.average.model)
        measured = self._team.ask_first(lambda: validated)
        if not all(map(math.isfinite, measured.values())):
            raise ModelError(self.name, f"validation gives {measured} in epoch {state.epoch + 1}", fix=_DIVERGED)
        figure, value = next(iter(measured.items()))
        if value > state.best_value:
            state.best_value, state.best_epoch = value, state.epoch
            self.best = _weights(self.average.model)
        row = {"epoch": state.epoch + 1, "train_loss": train_loss, "learning_rate": self._learning_rate()}
        state.history.append(row | {f"val_{key}": value for key, value in measured.items()})
        state.epoch, state.step = state.epoch + 1, 0
        self.loss_sum.zero_()
        self._save()
        say(
            f"{self.name}: epoch {state.epoch}/{self.settings.epochs}, train loss {train_loss:.4f}, "
            f"val {figure_words(figure)} {value:.2%}, {state.seconds:.0f} s"
        )
        if self._out_of_patience and state.epoch < self.settings.epochs:
            best = f"{state.best_value:.2%} of epoch {state.best_epoch + 1}"
            say(f"{self.name}: stops here, patience_epochs ({self.settings.patience_epochs}) after the best, {best}")

    def save_if_due(self) -> None:
        """Writes a checkpoint if the last one is old, or this process is to stop, and no gradients
        wait, which are not in it.
        """
        if self.between_updates and (self._is_old() or is_asked_to_stop()):
            self._check_finite()  # the last good checkpoint stays
            self._save()

    def _is_old(self) -> bool:
        """Returns whether the last checkpoint is old, by the clock of the first process.

        Where others wait for its answer, it is asked after 1, 2, 4, 8, ... updates without a
        checkpoint: that makes a checkpoint no more than twice as old as it should be.
        """
        if self._team.world > 1 and self._unsaved.bit_count() > 1:
            return False
        return self._team.ask_first(lambda: time.monotonic() - self._saved_at > self.settings.checkpoint_seconds)

    def _save(self) -> None:
        self._count_time()
        self._saved_at, self._unsaved = self._tick, 0
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "loss_sum": self._team.mean(self.loss_sum),
            "generators": self._team.gather(_generator_states(self.device)),
            "run": asdict(self.state),
        }
        if self._team.is_first:
            write_checkpoint(self._scratch, f"{self.state.epoch}-{self.state.step}", state)

    def _count_time(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._tick
        self._tick = now

    def _resume(self) -> None:
        """Restores the state of the checkpoint, if there is one."""
        state = read_checkpoint(self._scratch)
        found = self._team.gather(None if state is None else (state["run"]["epoch"], state["run"]["step"]))
        if len(set(found)) > 1:
            raise DataError(self._scratch, "not the same in all processes", expected="a folder that all machines share")
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.best = state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        self._restore_layout()
        self.loss_sum.copy_(state["loss_sum"])
        if self._team.rank < len(state["generators"]):  # else more processes go on than before
            self._generators = state["generators"][self._team.rank]
        self.state = RunState(**state["run"])
        if self.finished:
            say(f"{self.name}: was trained before, to epoch {self.state.epoch}")
        else:
            say(f"{self.name}: going on from epoch {self.state.epoch + 1}, step {self.state.step}")

    def _restore_layout(self) -> None:
        """Puts optimizer state back into its parameters' memory order, which a file does not keep:
        fused optimizers walk both side by side in memory.
        """
        for parameter, values in self.optimizer.state.items():
            for key, value in values.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    values[key] = torch.empty_like(parameter).copy_(value)

    def result(self) -> FitResult:
        return FitResult(_weights(self.average.model), self.best, self.state)


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _generator_states(device: torch.device) -> list[torch.Tensor]:
    """Returns the states of the generators that a step on this device draws from."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _set_generator_states(states: list[torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
