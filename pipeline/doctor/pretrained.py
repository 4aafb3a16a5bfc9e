"""A teacher that starts from published weights, where some are on this machine."""

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.core.config import Setting
from pipeline.doctor.facts import Facts

LEAST_PX = 64  # published weights know photographs: thumbnails are another matter
FEW_IMAGES = 50_000  # for which what others have learned is worth most
TRIED = 3  # networks, the largest first
_MOST_BYTES = 120_000_000
_INPUT_PX = 128


def candidates(facts: Facts, downloaded: Mapping[str, int]) -> list[str]:
    """Returns the networks that are worth a try, the largest first.

    Args:
        downloaded: The bytes of the weights of each network that are on this machine.
    """
    if facts.signal == "grid" or facts.short_px < LEAST_PX or facts.num_train > FEW_IMAGES:
        return []
    known = [name for name, size in downloaded.items() if size <= _MOST_BYTES]
    return sorted(known, key=lambda name: (-downloaded[name], name))[:TRIED]


def fine_tuned(name: str) -> Iterable[Setting]:
    """Yields the settings of a teacher that is fine-tuned: docs/own-data.md."""
    values: dict[str, tuple[Any, str]] = {
        "model": (
            name,
            "its published weights are on this machine",
        ),
        "model_settings": ({}, "as it was published"),
        "weights": ("published", "what it has learned from other images helps where images are few"),
        "new_head": (True, "for the classes of this data"),
        "input": ({"size_px": _INPUT_PX}, "a convolutional network takes any size; smaller is faster"),
        "fit.learning_rate": (0.001, "lower than from nothing: it knows much already"),
        "fit.freeze_epochs": (1, "first the new head alone"),
        "fit.layer_decay": (0.8, "what is general changes least"),
        "fit.ema_decay": (0.99, "the training is short"),
    }
    yield from (Setting(f"train_teacher.{key}", value, why) for key, (value, why) in values.items())
