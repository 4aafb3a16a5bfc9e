"""The size of images, the epochs and the views that fit a budget of time, worked out from measured
speeds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.core.config import Setting
from pipeline.doctor.facts import Facts, Speeds, epochs_for
from pipeline.doctor.recipe import value_at
from pipeline.doctor.reporting import duration
from pipeline.training.batches import num_steps

TEACHER_STEPS, STUDENT_STEPS = 2500, 1500  # of a network that learns from nothing
TUNING_STEPS = 300  # of one that starts from published weights
MOST_VIEWS = 16  # of each image: 0.2 points below a new view in every epoch (docs/benchmarks.md)
SIZES = (128, 112, 96, 80, 64, 56, 48, 40, 32)  # shorter sides: the small families are for tens of pixels
FEW_IMAGES = 20_000  # that a teacher would know by heart
_START_SECONDS = 150.0  # that all stages take to start, whatever they do
_AFTER = 0.3  # of the time of training: evaluate, explain, export and report
_CROP_SHARE = 16  # the shorter side is so many times the pixels by which views are shifted
_ENCODED_SHARE = 0.5  # of the free disk: what pixels may take
_SHRUNK = 2  # times the images' size, of the files that are kept instead


@dataclass(frozen=True)
class Schedule:
    """A size of images (None: as they are), epochs and views, and the seconds that they take."""

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
            schedule = replace(schedule, seconds=total_seconds(schedule, facts, speeds, batch))
            if schedule.seconds <= 60 * minutes:
                return schedule
    return schedule


def _teacher_steps(params: Mapping[str, Any]) -> int:
    return TUNING_STEPS if value_at(params, "train_teacher.weights") else TEACHER_STEPS


def _sizes(facts: Facts) -> list[int]:
    """Returns shorter sides from the largest that may be worth its time to the smallest."""
    smaller = [side for side in SIZES if side < facts.short_px]
    return [facts.short_px, *smaller] if facts.short_px <= SIZES[0] else smaller


def total_seconds(schedule: Schedule, facts: Facts, speeds: Speeds, batch: Mapping[str, int]) -> float:
    """Returns the seconds that a whole run takes."""
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
    students = sum(steps * one.training + facts.num_val * one.forward for one in speeds.students)
    # 3. Before and after them.
    trained = of_teacher * teacher + scale * schedule.student_epochs * students
    return images * speeds.prepare + (1 + _AFTER) * trained + _START_SECONDS


def schedule_settings(schedule: Schedule, facts: Facts, params: Mapping[str, Any], minutes: float) -> Iterator[Setting]:
    """Yields the settings of a schedule, with their reasons."""
    # 1. The images.
    (height, width), as_is = schedule.size_px, schedule.size_px == (facts.height, facts.width) and facts.one_size
    about = f"{duration(schedule.seconds)} for the whole run here, of {minutes:g} min"
    original = f"{facts.height} x {facts.width}" + ("" if facts.one_size else " and others")
    if as_is:
        yield Setting("prepare.image_px", None, f"all are {original}: {about}")
    else:
        yield Setting("prepare.image_px", [height, width], f"of {original}: {about}")
    needed = sum((facts.num_train, facts.num_val)) * facts.channels * height * width
    if needed > _ENCODED_SHARE * facts.free_bytes:
        yield Setting(
            "prepare.storage", "encoded", f"as pixels they take {needed / 1e9:,.0f} GB, too much of this disk"
        )
        yield Setting("prepare.longest_px", _SHRUNK * max(height, width), "larger files are shrunk to this")
    # 2. The steps.
    for section, epochs in (("train_teacher", schedule.teacher_epochs), ("students_defaults", schedule.student_epochs)):
        steps = epochs * num_steps(facts.num_seen(section), value_at(params, f"{section}.fit.batch_size"))
        yield Setting(f"{section}.fit.epochs", epochs, f"{steps:,} steps")
    views = schedule.num_views
    why = "one for each of a student's epochs" if views == schedule.student_epochs else "more bring little"
    yield Setting("dump_labels.num_views", views, why)
    # 3. The views.
    yield from _crops(facts, min(schedule.size_px), params)


def _crops(facts: Facts, short_px: int, params: Mapping[str, Any]) -> Iterator[Setting]:
    """Yields views that are shifted by a share of the images' size.

    A teacher of few images gets such views, too, or it would know them by heart.
    """
    crop = {"kind": "pad_crop", "pad_px": max(1, short_px // _CROP_SHARE)}
    for section in ("dump_labels", "train_teacher"):
        operations = value_at(params, f"{section}.views.operations")
        shifted = [crop if one["kind"] == "pad_crop" else one for one in operations]
        why = f"pad_px: a {_CROP_SHARE}th of the images' side"
        if section == "train_teacher" and facts.num_train < FEW_IMAGES and crop not in shifted:
            shifted, why = [crop, *shifted], f"{facts.num_train:,} images are few: they are shifted, too"
        if shifted != operations:
            yield Setting(f"{section}.views.operations", shifted, why)
