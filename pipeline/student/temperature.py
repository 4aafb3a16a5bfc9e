"""`temperature: auto`: the temperature of a student, chosen by short trials on stored labels.

Labels serve any declared temperature, so that a trial costs some steps of the student and no teacher.
"""

import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import PlainValidator
from pydantic_core import PydanticCustomError

from pipeline.core.files import read_json, write_json
from pipeline.core.progress import say
from pipeline.training.recipe import FitSettings
from pipeline.training.run import FitResult
from pipeline.training.task import AnyBatch, Task, WrappedTask

PILOT_STEPS = 300  # at most, and at most one epoch


def _number_or_auto(value: object) -> object:
    if value == "auto":
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise PydanticCustomError("temperature", "a number above 0, or auto")


Temperature = Annotated[float | Literal["auto"], PlainValidator(_number_or_auto)]


@dataclass(frozen=True)
class Trial:
    """How a student that was trained for a short time at one temperature does on the validation split."""

    temperature: float
    accuracy: float  # 0 to 1
    nll: float  # nats


@dataclass(frozen=True)
class Choice:
    """A temperature, and the trials that it was chosen by (none where there was no choice)."""

    temperature: float
    trials: tuple[Trial, ...]

    def to_dict(self) -> dict[str, Any]:
        """For a network's meta and for reports: nothing of time."""
        table = {f"{trial.temperature:g}": {"accuracy": trial.accuracy, "nll": trial.nll} for trial in self.trials}
        return {"temperature": self.temperature, "temperature_pilot": table}


def choose_temperature(
    candidates: Sequence[float],
    try_one: Callable[[float, Path], FitResult],
    *,
    num_samples: int,
    folder: Path,
    name: str,
) -> Choice:
    """The lowest temperature whose accuracy lies within one standard error of the best one's.

    The standard error is sqrt(p (1 - p) / n), p the best accuracy on n samples: what lies closer is no evidence, and of
    such temperatures the lower one is the safer: high ones cost small students the most. NLL is recorded and decides
    nothing, because a high temperature worsens it by itself.

    Args:
        try_one: Trains for a short time, in a folder that outlives a killed process; `shorten` makes such a task.
        num_samples: That accuracies are measured on.
        folder: Where finished trials are kept, so that a killed pilot does not repeat them.
        name: What to call the student in messages.
    """
    if len(candidates) == 1:
        say(f"{name}: temperature {candidates[0]:g}, the only one that its store serves")
        return Choice(candidates[0], ())
    trials = tuple(_trial(temperature, try_one, folder, name) for temperature in sorted(candidates))
    best = max(trial.accuracy for trial in trials)
    error = math.sqrt(best * (1 - best) / num_samples)
    chosen = next(trial for trial in trials if trial.accuracy >= best - error)
    margin = f"{error:.2%} (one standard error) of the best accuracy, {best:.2%}"
    say(f"{name}: temperature {chosen.temperature:g}, the lowest that comes within {margin}")
    return Choice(chosen.temperature, trials)


def _trial(temperature: float, try_one: Callable[[float, Path], FitResult], folder: Path, name: str) -> Trial:
    place = folder / f"temperature-{temperature:g}"
    done = place.with_name(f"{place.name}.json")
    if not done.exists():
        last = try_one(temperature, place).state.history[-1]
        write_json(done, asdict(Trial(temperature, last["val_accuracy"], last["val_nll"])))
    shutil.rmtree(place, ignore_errors=True)
    trial = Trial(**read_json(done, made_by="train_student"))
    say(f"{name}: pilot at temperature {temperature:g}: val accuracy {trial.accuracy:.2%}, NLL {trial.nll:.4f}")
    return trial


class ShortTask(WrappedTask[AnyBatch]):
    """A task that ends after the first steps of each epoch."""

    def __init__(self, task: Task[AnyBatch], steps: int) -> None:
        super().__init__(task)
        self.steps_per_epoch = steps

    def batches(self, epoch: int, start_step: int) -> Iterable[AnyBatch]:
        return islice(self.task.batches(epoch, start_step), self.steps_per_epoch - start_step)


def shorten(task: Task[AnyBatch], settings: FitSettings, device: torch.device) -> tuple[Task[AnyBatch], FitSettings]:
    """A trial's task and recipe: PILOT_STEPS batches of the first epoch at most, with a schedule of that length."""
    steps = min(task.steps_per_epoch, PILOT_STEPS)
    settings = replace(settings, epochs=1, patience_epochs=None)
    if settings.precision == "auto" and device.type == "cpu":
        # There the clock chooses a precision, which would let it choose the temperature too.
        settings = replace(settings, precision="float32")
    return ShortTask(task, steps), settings
