"""Pilots: short trainings of a student by which a setting is chosen that is `auto`.

Their figures are kept in a folder, so that a killed process does not repeat them.
"""

import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import PlainValidator
from pydantic_core import PydanticCustomError

from pipeline.core.files import read_json, write_json
from pipeline.core.progress import say
from pipeline.signals import figure_words
from pipeline.training.recipe import FitSettings
from pipeline.training.run import FitResult
from pipeline.training.task import AnyBatch, Task, WrappedTask

PILOT_STEPS = 300  # at most, and at most one epoch
Tried = TypeVar("Tried")


def number_or_auto(kind: str, least: float, most: float, expected: str) -> PlainValidator:
    """Returns the check of a setting that is a number within bounds, or `auto`."""

    def check(value: object) -> object:
        if value == "auto":
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
            return float(value)
        raise PydanticCustomError(kind, expected)

    return PlainValidator(check)


@dataclass(frozen=True)
class Pilot:
    """The figures of a student on the validation split after a short training.

    Attributes:
        accuracy: Or the figure of its signal by which networks are compared, 0 to 1.
        nll: In nats.
        figure: The name of that figure; None: it is accuracy.
    """

    accuracy: float
    nll: float
    figure: str | None = None

    def to_dict(self) -> dict[str, str | float]:
        """Returns the figures as plain JSON; accuracy is not named."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @property
    def words(self) -> str:
        """The name of the figure by which pilots are compared."""
        return figure_words(self.figure or "accuracy")


def pilot(place: Path, title: str, train: Callable[[Path], FitResult]) -> Pilot:
    """Returns the pilot that is kept at a place, or else a new one.

    Args:
        train: Trains for a short time, in a folder that outlives a killed process. `shorten` makes
            such a task.
    """
    done = place.with_name(f"{place.name}.json")
    if not done.exists():
        last = train(place).state.history[-1]
        first = next(key for key in last if key.startswith("val_"))
        figure = first.removeprefix("val_")
        write_json(done, Pilot(last[first], last["val_nll"], None if figure == "accuracy" else figure).to_dict())
    shutil.rmtree(place, ignore_errors=True)
    found = Pilot(**read_json(done, made_by="train_student"))
    say(f"{title}: val {found.words} {found.accuracy:.2%}, NLL {found.nll:.4f}")
    return found


def first_close(pilots: Mapping[Tried, Pilot], num_samples: int) -> tuple[Tried, str]:
    """Returns the first that comes within one standard error of the best, and this in words.

        error = sqrt(p * (1 - p) / n), p the best accuracy on n samples

    A smaller difference is no evidence. NLL is recorded and decides nothing, because a high
    temperature worsens it by itself.
    """
    words = next(iter(pilots.values())).words
    best = max(each.accuracy for each in pilots.values())
    error = math.sqrt(best * (1 - best) / num_samples)
    chosen = next(tried for tried, each in pilots.items() if each.accuracy >= best - error)
    return chosen, f"that comes within {error:.2%} (one standard error) of the best {words}, {best:.2%}"


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
        # On a CPU the clock chooses a precision; through it the clock would choose the setting.
        settings = replace(settings, precision="float32")
    return ShortTask(task, steps), settings
