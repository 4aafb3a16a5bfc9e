"""The settings that fit a data set whatever the machine is: batches, balance, encodings.

Each is a function of the facts alone, with the reason as it will stand in params.yaml.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core.config import Setting
from pipeline.core.errors import listed
from pipeline.doctor.choice import Choice, differing, value_at
from pipeline.doctor.facts import Facts
from pipeline.doctor.tasks import fit_signal
from pipeline.labelling.stores import unfit_encodings
from pipeline.labels.encodings import LabelSpace, build_row
from pipeline.training.batches import num_steps

STEPS_PER_EPOCH = 40  # at least, where images are few
BATCH_SIZES = (128, 64, 32, 16)
IMBALANCE = 5  # times as many images in the largest class as in the smallest
MANY_CLASSES = 32  # for which one byte a class is too much
VIEWS_PER_CLASS = 20  # from which the tail of `topk` is learned: docs/labels.md
TRAINED = ("train_teacher", "students_defaults")
AUTOMATIC = ("hard_weight", "soft_weight", "temperature")  # of a student that learns from soft labels
_BUDGET = {"kind": "auto", "bytes": 8}  # of labels: whatever the teacher, the disk is known beforehand


def fit_recipe(facts: Facts, params: Mapping[str, Any]) -> list[Choice]:
    """Returns the choices whose settings differ from those in params.yaml.

    Args:
        params: All of it.
    """
    labels = fit_signal(facts.signal, params) if facts.signal != "categorical" else _encodings(facts, params)
    return differing([*_batches(facts, params), *_balance(facts), *labels, *_trials(params)], params)


def batch_size(num_train: int) -> int:
    """Returns the largest batch that leaves an epoch enough steps."""
    return next((size for size in BATCH_SIZES if num_train >= size * STEPS_PER_EPOCH), BATCH_SIZES[-1])


def _batches(facts: Facts, params: Mapping[str, Any]) -> Iterator[Choice]:
    settings = [setting for section in TRAINED for setting in _batch_settings(section, facts, params)]
    sizes = sorted({setting.value for setting in settings if setting.entry.endswith("batch_size")})
    if sizes:
        few = f"{facts.num_seen(TRAINED[0]):,} training images are few"
        yield Choice(f"batches: of {' and '.join(map(str, sizes))} images, because {few}", settings)


def _batch_settings(section: str, facts: Facts, params: Mapping[str, Any]) -> Iterator[Setting]:
    fit, seen = f"{section}.fit", facts.num_seen(section)
    size = batch_size(seen)
    usual, rate = value_at(params, f"{fit}.batch_size"), value_at(params, f"{fit}.learning_rate")
    if size < usual:
        yield Setting(f"{fit}.batch_size", size, f"{seen:,} training images: {num_steps(seen, size)} steps in an epoch")
        root = float(f"{rate * math.sqrt(size / usual):.2g}")
        why = f"{rate:g} with batches of {usual}; smaller with the root of their size"
        yield Setting(f"{fit}.learning_rate", root, why)


def _balance(facts: Facts) -> Iterator[Choice]:
    if facts.class_counts is None or facts.class_counts[1] < IMBALANCE * facts.class_counts[0]:
        return
    least, most = facts.class_counts
    found = f"classes have {least:,} to {most:,} training images"
    why = f"{found}: rare ones weigh more, by the root of their count"
    settings = [Setting(f"{section}.class_balance", 0.5, why) for section in TRAINED]
    yield Choice(f"balance: images of rare classes weigh more in training, because {found}", settings)


def _encodings(facts: Facts, params: Mapping[str, Any]) -> Iterator[Choice]:
    classes, rows = facts.num_classes, value_at(params, "encodings")
    is_many = classes > MANY_CLASSES
    # 1. Encodings that can't keep so few classes, or would keep too much of many.
    reasons = {name: why for name, row in rows.items() if (why := _reason_against(row, classes))}
    removed = [Setting(f"encodings.{name}", None, why, removed=True) for name, why in reasons.items()]
    # 2. One for many classes.
    added = []
    if is_many:
        why = f"{classes:,} classes: the dump chooses the most faithful labels of so many bytes"
        added = [Setting("encodings.soft", _BUDGET, why)]
    # 3. Students whose encoding is gone take that one, or a dense one.
    dense = [name for name, row in rows.items() if row["kind"].startswith("dense") and name not in reasons]
    instead = [
        Setting(f"students.{name}.labels", "soft" if is_many else dense[-1], f"{classes:,} classes")
        for name, row in value_at(params, "students").items()
        if row["labels"] in reasons
    ]
    line = f"labels: no store {listed([*reasons], 60)}: {' and '.join({*reasons.values()})}" + (
        f"; soft keeps what fits into {_BUDGET['bytes']} bytes a label" if is_many else ""
    )
    yield Choice(line, [*removed, *added, *instead])
    # 4. Enough labels to learn a tail from.
    if (wanted := VIEWS_PER_CLASS * classes) > value_at(params, "dump_labels.pilot_labels"):
        why = f"{VIEWS_PER_CLASS} for each of {classes:,} classes"
        setting = Setting("dump_labels.pilot_labels", wanted, why)
        yield Choice(f"labels: encodings learn from {wanted:,} of them, {why}", [setting])


def _trials(params: Mapping[str, Any]) -> Iterator[Choice]:
    """Yields that students choose what is best for them with a teacher that is not known yet."""
    defaults, rows = value_at(params, "students_defaults"), value_at(params, "students")
    soft = [name for name, row in rows.items() if {**defaults, **row}["soft_weight"]]
    why = "short trials choose it, with the teacher that there will be"
    settings = [Setting(f"students.{name}.{key}", "auto", why) for name in soft for key in AUTOMATIC]
    if settings:
        yield Choice(f"students: weights and temperature of {listed(soft, 60)} by short trials", settings)


def _reason_against(row: Mapping[str, Any], num_classes: int) -> str | None:
    """Returns why an encoding does not serve so many classes; None where it does."""
    if not _can_keep(row, num_classes):
        return f"it does not fit {num_classes:,} classes"
    too_much = row["kind"].startswith("dense") and num_classes > MANY_CLASSES
    return f"it would keep a number for each of {num_classes:,} classes" if too_much else None


def _can_keep(row: Mapping[str, Any], num_classes: int) -> bool:
    """Returns whether an encoding fits so many classes, as it says itself."""
    return not unfit_encodings({"row": build_row(row, "encodings")}, LabelSpace(num_classes, 1.0, (1.0,)), "encodings")
