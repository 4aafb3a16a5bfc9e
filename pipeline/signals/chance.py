"""The checks that a classifier is better than guessing.

One that was made elsewhere must be so beyond doubt. One that was trained here is refused where it
is certainly not, and reported where that is in doubt: data may be hard, and validation images few.
"""

import math

import torch
from jaxtyping import Float, Int64

from pipeline.core.errors import ModelError
from pipeline.data.splits import HardLabels
from pipeline.signals.base import Outputs, Signal
from pipeline.signals.categorical import CATEGORICAL
from pipeline.signals.metrics import mean_by_chance

_STANDARD_ERRORS = 3.0
_ROUNDING = 1e-12
ENOUGH = 50  # labelled images, to tell chance from knowledge
_RETRAIN = "lower its learning_rate, or train it for more epochs"


def chance_level(logits: Float[torch.Tensor, "samples classes"], hard_labels: Int64[torch.Tensor, " samples"]) -> float:
    """Returns the share of right predictions, 0 to 1, that mere chance could come to.

    It is the mean by chance plus three binomial standard errors, for predictions that have
    nothing to do with the labels.

    Chance is not one in so many classes: a guess that is always the most frequent class is right
    as often as that occurs. So the mean is how often predictions and labels agree if each keeps
    its own frequencies.

    References:
        Jacob Cohen, "A Coefficient of Agreement for Nominal Scales", 1960, equation 1 (the
        agreement by chance).
    """
    return _level(mean_by_chance(logits, hard_labels), len(hard_labels))


def _level(mean: float, count: int) -> float:
    level = mean + _STANDARD_ERRORS * math.sqrt(mean * (1 - mean) / count)
    return min(level, 1 - 0.5 / count)  # of few samples, all may be right and not be enough


def check_above_chance(outputs: Outputs, hard_labels: HardLabels, where: object, signal: Signal = CATEGORICAL) -> None:
    """Raises ModelError where the predictions are no better than chance.

    Then their classes are in another order, or the images are not prepared as the classifier
    wants them.
    """
    found = signal.metrics(outputs, hard_labels)[signal.headline]
    one_of_several = signal.kind == "categorical"
    level = chance_level(outputs, hard_labels) if one_of_several else signal.chance(outputs, hard_labels)
    if found <= level + _ROUNDING:
        raise ModelError(
            where,
            f"{signal.headline_words} {found:.2%} on {len(hard_labels):,} labelled images is no better than chance",
            expected=f"above {level:.2%}",
            fix="check the order of its classes (teacher_classes, class_map) and what images it wants (input)",
        )


def check_learned(outputs: Outputs, hard_labels: HardLabels, where: object, signal: Signal = CATEGORICAL) -> None:
    """Raises ModelError where a network that was trained here is no better than chance: labels of
    such a teacher would teach nothing.

    A network that predicts the same for all is always found: it is as good as chance.
    """
    found, mean = signal.metrics(outputs, hard_labels)[signal.headline], signal.chance(outputs, hard_labels)
    several = len(hard_labels[hard_labels >= 0].unique()) > 1
    if found <= mean + _ROUNDING and len(hard_labels) >= ENOUGH and several:
        told = f"{signal.headline_words} {found:.2%} on {len(hard_labels):,} validation images is what chance comes to"
        raise ModelError(where, f"learned nothing: {told}", expected=f"more than {mean:.2%}", fix=_RETRAIN)


def chance_line(found: float, hard_labels: HardLabels, signal: Signal = CATEGORICAL) -> str | None:
    """Returns a line about a headline that mere chance could come to; None where it could not.

    For an accuracy, chance is at its best where it always names the most frequent class.
    """
    if signal.kind != "categorical":
        mean = signal.guess(hard_labels)
        told = f"val {signal.headline_words} {found:.2%} on {len(hard_labels):,} images is what chance comes to"
        return None if found > mean else f"{told} ({mean:.2%}); {_RETRAIN}"
    level = _level(signal.guess(hard_labels), len(hard_labels))
    if found > level:
        return None
    told = f"val accuracy {found:.2%} on {len(hard_labels):,} images is no better than the most frequent class"
    return f"{told} (up to {level:.2%} by chance); {_RETRAIN}"
