"""`temperature: auto`: the temperature of a student, chosen by short trials on stored labels.

Stored labels serve any declared temperature, so a trial costs some steps of the student and no
teacher.
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

from pipeline.core import bounds
from pipeline.core.files import read_json, write_json
from pipeline.core.progress import say
from pipeline.training.recipe import FitSettings
from pipeline.training.run import FitResult
from pipeline.training.task import AnyBatch, Task, WrappedTask

PILOT_STEPS = 300  # at most, and at most one epoch


def _number_or_auto(value: object) -> object:
    if value == "auto":
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and bounds.COLDEST <= value <= bounds.HOTTEST:
        return float(value)
    raise PydanticCustomError("temperature", f"a number above 0, or auto ({bounds.COLDEST} to {bounds.HOTTEST})")


Temperature = Annotated[bounds.Temperature | Literal["auto"], PlainValidator(_number_or_auto)]


@dataclass(frozen=True)
class Pilot:
    """The figures of a student on the validation split after a short training."""

    temperature: float
    accuracy: float  # 0 to 1
    nll: float  # nats


@dataclass(frozen=True)
class Choice:
    """A temperature, and the pilots that it was chosen by (none where there was no choice)."""

    temperature: float
    pilots: tuple[Pilot, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns what is written beside the weights and into the report: figures, no times."""
        table = {f"{pilot.temperature:g}": {"accuracy": pilot.accuracy, "nll": pilot.nll} for pilot in self.pilots}
        return {"temperature": self.temperature, "temperature_pilot": table}


def choose_temperature(
    candidates: Sequence[float],
    try_one: Callable[[float, Path], FitResult],
    *,
    num_samples: int,
    folder: Path,
    name: str,
) -> Choice:
    """Returns the lowest temperature whose accuracy is within one standard error of the best.

        error = sqrt(p * (1 - p) / n), p the best accuracy on n samples

    A smaller difference is no evidence. Among such temperatures the lower one is safer, because
    high ones cost small students the most. NLL is recorded and decides nothing, because a high
    temperature worsens it by itself.

    Args:
        try_one: Trains for a short time, in a folder that outlives a killed process. `shorten`
            makes such a task.
        num_samples: The number of samples that accuracies are measured on.
        folder: Keeps finished pilots, so that a killed process does not repeat them.
        name: The student's name in messages.
    """
    if len(candidates) == 1:
        say(f"{name}: temperature {candidates[0]:g}, the only one that its store serves")
        return Choice(candidates[0], ())
    pilots = tuple(_pilot(temperature, try_one, folder, name) for temperature in sorted(candidates))
    best = max(pilot.accuracy for pilot in pilots)
    error = math.sqrt(best * (1 - best) / num_samples)
    chosen = next(pilot for pilot in pilots if pilot.accuracy >= best - error)
    margin = f"{error:.2%} (one standard error) of the best accuracy, {best:.2%}"
    say(f"{name}: temperature {chosen.temperature:g}, the lowest that comes within {margin}")
    return Choice(chosen.temperature, pilots)


def _pilot(temperature: float, try_one: Callable[[float, Path], FitResult], folder: Path, name: str) -> Pilot:
    """Returns the pilot at one temperature: the one that is kept, or else a new one."""
    place = folder / f"temperature-{temperature:g}"
    done = place.with_name(f"{place.name}.json")
    if not done.exists():
        last = try_one(temperature, place).state.history[-1]
        write_json(done, asdict(Pilot(temperature, last["val_accuracy"], last["val_nll"])))
    shutil.rmtree(place, ignore_errors=True)
    pilot = Pilot(**read_json(done, made_by="train_student"))
    say(f"{name}: pilot at temperature {temperature:g}: val accuracy {pilot.accuracy:.2%}, NLL {pilot.nll:.4f}")
    return pilot


class ShortTask(WrappedTask[AnyBatch]):
    """A task that ends after the first steps of each epoch."""

    def __init__(self, task: Task[AnyBatch], steps: int) -> None:
        super().__init__(task)
        self.steps_per_epoch = steps

    def batches(self, epoch: int, start_step: int) -> Iterable[AnyBatch]:
        return islice(self.task.batches(epoch, start_step), self.steps_per_epoch - start_step)


def shorten(task: Task[AnyBatch], settings: FitSettings, device: torch.device) -> tuple[Task[AnyBatch], FitSettings]:
    """Returns a pilot's task and recipe: at most PILOT_STEPS batches and as long a schedule."""
    steps = min(task.steps_per_epoch, PILOT_STEPS)
    settings = replace(settings, epochs=1, patience_epochs=None)
    if settings.precision == "auto" and device.type == "cpu":
        # On a CPU the clock chooses a precision; through it the clock would choose the temperature.
        settings = replace(settings, precision="float32")
    return ShortTask(task, steps), settings
