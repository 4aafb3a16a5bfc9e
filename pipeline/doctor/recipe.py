"""The settings that fit a data set whatever the machine is: batches, balance, encodings, networks.

Each is a function of the facts alone, with the reason as it will stand in params.yaml.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core.config import Setting
from pipeline.core.errors import ConfigError
from pipeline.doctor.facts import Facts
from pipeline.labels.encodings import LabelSpace, build_encoding
from pipeline.training.batches import num_steps

STEPS_PER_EPOCH = 40  # at least, where images are few
BATCH_SIZES = (128, 64, 32, 16)
IMBALANCE = 5  # times as many images in the largest class as in the smallest
MANY_CLASSES = 200  # for which one byte a class is too much
VIEWS_PER_CLASS = 20  # from which the tail of `topk` is learned: docs/labels.md
MOST_PRIOR_CLASSES = 16_384
LARGE_PX = 40  # images for which a student of depth 1 sees too small a part
_TOPK = {"kind": "topk", "k": 8, "levels": 64, "range_nats": 40.0, "tail": "prior", "tail_classes": 256}


def fit_recipe(facts: Facts, params: Mapping[str, Any]) -> list[Setting]:
    """Returns the settings that differ from those in params.yaml.

    Args:
        params: All of it.
    """
    fitted = [*_batches(facts, params), *_balance(facts), *_encodings(facts, params), *_students(facts, params)]
    return [setting for setting in fitted if setting.removed or value_at(params, setting.entry) != setting.value]


def value_at(params: Mapping[str, Any], entry: str) -> Any:
    """Returns what params.yaml has at a dotted name; None where there is nothing."""
    node: Any = params
    for key in entry.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def batch_size(num_train: int) -> int:
    """Returns the largest batch that leaves an epoch enough steps."""
    return next((size for size in BATCH_SIZES if num_train >= size * STEPS_PER_EPOCH), BATCH_SIZES[-1])


def _batches(facts: Facts, params: Mapping[str, Any]) -> Iterator[Setting]:
    for section in ("train_teacher", "students_defaults"):
        fit, seen = f"{section}.fit", facts.num_seen(section)
        size = batch_size(seen)
        usual, rate = value_at(params, f"{fit}.batch_size"), value_at(params, f"{fit}.learning_rate")
        if size < usual:
            why = f"{seen:,} training images: {num_steps(seen, size)} steps in an epoch"
            yield Setting(f"{fit}.batch_size", size, why)
            root = float(f"{rate * math.sqrt(size / usual):.2g}")
            yield Setting(f"{fit}.learning_rate", root, f"{rate:g} for batches of {usual}; it goes with their root")


def _balance(facts: Facts) -> Iterator[Setting]:
    if facts.class_counts is None or facts.class_counts[1] < IMBALANCE * facts.class_counts[0]:
        return
    least, most = facts.class_counts
    why = f"classes have {least:,} to {most:,} images: rare ones weigh more, by the root of their count"
    for section in ("train_teacher", "students_defaults"):
        yield Setting(f"{section}.class_balance", 0.5, why)


def _encodings(facts: Facts, params: Mapping[str, Any]) -> Iterator[Setting]:
    classes, rows = facts.num_classes, value_at(params, "encodings")
    is_many = classes > MANY_CLASSES
    # 1. Encodings that can't keep so few classes, or would keep too much of many.
    reasons = {name: _reason_against(row, classes) for name, row in rows.items()}
    for name, why in reasons.items():
        if why:
            yield Setting(f"encodings.{name}", None, f"{classes:,} classes: {why}", removed=True)
    # 2. One for many classes.
    if is_many:
        tail = "prior" if classes <= MOST_PRIOR_CLASSES else "uniform"
        why = f"{classes:,} classes: the 8 most likely ones, about 13 bytes; `tune_labels` measures others"
        yield Setting("encodings.top8", _TOPK | {"tail": tail}, why)
    # 3. Students whose encoding is gone take that one, or a dense one.
    dense = [name for name, row in rows.items() if row["kind"].startswith("dense") and not reasons[name]]
    for name, row in value_at(params, "students").items():
        if reasons.get(row["labels"]):
            yield Setting(f"students.{name}.labels", "top8" if is_many else dense[-1], f"{classes:,} classes")
    # 4. Enough labels to learn a tail from.
    if (wanted := VIEWS_PER_CLASS * classes) > value_at(params, "dump_labels.pilot_labels"):
        yield Setting("dump_labels.pilot_labels", wanted, f"{VIEWS_PER_CLASS} for each of {classes:,} classes")


def _reason_against(row: Mapping[str, Any], num_classes: int) -> str | None:
    """Returns why an encoding does not serve so many classes; None where it does."""
    if not _can_keep(row, num_classes):
        return "it can't keep them"
    too_much = row["kind"].startswith("dense") and num_classes > MANY_CLASSES
    return "it keeps a number for each of them" if too_much else None


def _can_keep(row: Mapping[str, Any], num_classes: int) -> bool:
    """Returns whether an encoding fits so many classes, as it says itself."""
    try:
        build_encoding(row, "encodings").check(LabelSpace(num_classes, 1.0, (1.0,)), "encodings")
    except ConfigError:
        return False
    return True


def _students(facts: Facts, params: Mapping[str, Any]) -> Iterator[Setting]:
    """Yields deeper students for larger images."""
    if facts.short_px <= LARGE_PX:
        return
    for name, row in value_at(params, "students").items():
        if row["model"] == "convnet_small" and row["model_settings"]["depth"] == 1:
            why = "depth 2: an output of depth 1 sees 15 x 15 pixels, one of depth 2 sees 43 x 43"
            yield Setting(f"students.{name}.model_settings", {**row["model_settings"], "depth": 2}, why)
