"""The size of images, the epochs and the views that fit a budget of time, worked out from measured
speeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.doctor.choice import value_at
from pipeline.doctor.facts import Facts, Speeds, epochs_for
from pipeline.student.weights import num_pilots
from pipeline.training.batches import num_steps

TEACHER_STEPS, STUDENT_STEPS = 2500, 1500  # of a network that learns from nothing
TUNING_STEPS = 300  # of one that starts from published weights
MOST_VIEWS = 16  # of each image: 0.2 points below a new view in every epoch (docs/benchmarks.md)
SIZES = (128, 112, 96, 80, 64, 56, 48, 40, 32)  # shorter sides: the small families are for tens of pixels
_START_SECONDS = 150.0  # that all stages take to start, whatever they do
_AFTER = 0.3  # of the time of training: evaluate, explain, export and report


@dataclass(frozen=True)
class Schedule:
    """A size of images, epochs and views, and the seconds that they take."""

    size_px: tuple[int, int]
    teacher_epochs: int
    student_epochs: int
    num_views: int
    seconds: float = 0.0


def fit_schedule(facts: Facts, speeds: Speeds, params: Mapping[str, Any], minutes: float) -> Schedule:
    """Returns the largest images that the budget has time for, with enough steps for each network.

    Where even the smallest take too long, epochs are fewer, down to the steps that are needed; the
    schedule may then still take longer than the budget.
    """
    batch = {name: value_at(params, f"{name}.fit.batch_size") for name in ("train_teacher", "students_defaults")}
    pilots = _pilots(params)
    least = {
        "train_teacher": epochs_for(_teacher_steps(params), facts.num_seen("train_teacher"), batch["train_teacher"]),
        "students_defaults": epochs_for(STUDENT_STEPS, facts.num_train, batch["students_defaults"]),
    }
    usual = {name: max(epochs, value_at(params, f"{name}.fit.epochs")) for name, epochs in least.items()}
    for epochs in (usual, least):
        teacher, students = epochs.values()
        for short_px in _sizes(facts) if epochs is usual else _sizes(facts)[-1:]:
            views = min(MOST_VIEWS, students)
            schedule = Schedule(facts.size_at(short_px), teacher, students, views)
            schedule = replace(schedule, seconds=total_seconds(schedule, facts, speeds, batch, pilots))
            if schedule.seconds <= 60 * minutes:
                return schedule
    return schedule


def _teacher_steps(params: Mapping[str, Any]) -> int:
    return TUNING_STEPS if value_at(params, "train_teacher.weights") else TEACHER_STEPS


def _sizes(facts: Facts) -> list[int]:
    """Returns shorter sides from the largest that may be worth its time to the smallest."""
    smaller = [side for side in SIZES if side < facts.short_px]
    return [facts.short_px, *smaller] if facts.short_px <= SIZES[0] else smaller


def _pilots(params: Mapping[str, Any]) -> list[int]:
    """Returns how many short trials each row of the table of students asks for."""
    defaults, temperatures = value_at(params, "students_defaults"), value_at(params, "dump_labels.temperatures")
    return [num_pilots({**defaults, **row}, len(temperatures)) for row in value_at(params, "students").values()]


def total_seconds(
    schedule: Schedule, facts: Facts, speeds: Speeds, batch: Mapping[str, int], pilots: Sequence[int]
) -> float:
    """Returns the seconds that a whole run takes.

    Args:
        batch: Its size by the section of params.yaml.
        pilots: How many short trials each student makes.
    """
    height, width = schedule.size_px
    scale = height * width / speeds.area_px
    of_teacher, images = (scale if speeds.teacher_scales else 1.0), facts.num_train
    # 1. The teacher: its training and its labels.
    size = batch["train_teacher"]
    steps = num_steps(facts.num_seen("train_teacher"), size) * size
    teacher = schedule.teacher_epochs * (steps * speeds.teacher.training + facts.num_val * speeds.teacher.forward)
    teacher += schedule.num_views * images * speeds.teacher.forward
    # 2. The students.
    size = batch["students_defaults"]
    steps = num_steps(images, size) * size
    costs = speeds.of_students(min(schedule.size_px))
    students = sum(steps * one.training + facts.num_val * one.forward for one in costs)
    tried = sum(count * one.of_pilot(size, images, facts.num_val) for count, one in zip(pilots, costs, strict=True))
    # 3. Before and after them.
    trained = of_teacher * teacher + scale * (schedule.student_epochs * students + tried)
    return images * speeds.prepare + trained + other_seconds(trained)


def other_seconds(trained: float) -> float:
    """Returns the seconds of evaluate, explain, export and report, and of starting all stages.

    Args:
        trained: The seconds of training and labelling.
    """
    return _AFTER * trained + _START_SECONDS
