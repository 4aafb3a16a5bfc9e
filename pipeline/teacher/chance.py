"""The check that a classifier which was made elsewhere knows this data at all."""

import math

import torch
from jaxtyping import Float, Int64

from pipeline.core.errors import ModelError
from pipeline.signals.metrics import accuracy

_STANDARD_ERRORS = 3.0


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
    count, classes = logits.shape
    predicted = torch.bincount(logits.argmax(dim=1), minlength=classes).double() / count
    labelled = torch.bincount(hard_labels, minlength=classes).double() / count
    mean = (predicted * labelled).sum().item()
    level = mean + _STANDARD_ERRORS * math.sqrt(mean * (1 - mean) / count)
    return min(level, 1 - 0.5 / count)  # of few samples, all may be right and not be enough


def check_above_chance(
    logits: Float[torch.Tensor, "samples classes"], hard_labels: Int64[torch.Tensor, " samples"], where: object
) -> None:
    """Raises ModelError where the predictions are no better than chance.

    Then their classes are in another order, or the images are not prepared as the classifier
    wants them.
    """
    found, level = accuracy(logits, hard_labels), chance_level(logits, hard_labels)
    if found <= level:
        raise ModelError(
            where,
            f"accuracy {found:.2%} on {len(hard_labels):,} labelled images is no better than chance",
            expected=f"above {level:.2%}",
            fix="check the order of its classes (teacher_classes, class_map) and what images it wants (input)",
        )
