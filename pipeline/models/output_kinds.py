"""The kinds of outputs that a network ends in: logits, or probabilities of one sort or another.

For independent classes logits are log-odds, and their probabilities sigmoids.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float

from pipeline.core.errors import ConfigError, ModelError
from pipeline.signals import Signal

OutputKind = Literal["logits", "probabilities", "log_probs", "sigmoids"]

SUM_TOLERANCE = 1e-3
_LEAST_PROBABILITY = float(torch.finfo(torch.float32).tiny)
_LOW, _HIGH = 0.1, 0.9  # a trained sigmoid reaches both; logits that stay within 0 and 1 do not
_MOST_SIGMOID = 1 - 2**-24  # float32 has none between that and 1
_MARKS: dict[OutputKind, int] = {"probabilities": 1, "log_probs": 2, "sigmoids": 3}


def as_logits(
    outputs: Float[torch.Tensor, "batch outputs *grid"], kind: OutputKind
) -> Float[torch.Tensor, "batch outputs *grid"]:
    """Returns finite logits with the same softmax, or log-odds with the same sigmoids.

    Log-probabilities are logits already, and so are the logarithms of probabilities: a softmax
    takes no notice of a shift.
    """
    if kind == "sigmoids":
        return torch.logit(outputs.clamp(_LEAST_PROBABILITY, _MOST_SIGMOID))
    return outputs.clamp(min=_LEAST_PROBABILITY).log() if kind == "probabilities" else outputs


def check_meaning(kind: OutputKind | None, groups: Sequence[Sequence[int]] | None, signal: Signal, where: str) -> None:
    """Raises ConfigError where outputs of a kind, or grouped for classes, can't be of a signal.

    Args:
        where: The network's place in `params.yaml`.
    """
    if signal.is_independent and kind in ("probabilities", "log_probs"):
        found = f"{kind}, which are of one softmax, and the data's classes are independent"
        raise ConfigError(f"{where}.outputs", found, expected="null (log-odds) or sigmoids")
    if signal.is_independent and any(len(group) > 1 for group in groups or ()):
        found = "several outputs for a class, and the data's classes are independent: they do not add up"
        raise ConfigError(f"{where}.class_map", found, expected="one output for each class")
    if not signal.is_independent and kind == "sigmoids":
        found = "sigmoids, and each sample of the data is of one class"
        raise ConfigError(f"{where}.outputs", found, expected="null (logits), probabilities or log_probs")


def mark_of(kind: OutputKind) -> torch.Tensor | None:
    """Returns a number for a kind, to stand among the weights; None for logits, which have none."""
    return torch.tensor(_MARKS[kind]) if kind in _MARKS else None


def kind_of(mark: torch.Tensor | None) -> OutputKind | None:
    """Returns the kind that `mark_of` gave a number for; None where there is none."""
    return None if mark is None else next((kind for kind, each in _MARKS.items() if each == int(mark)), None)


def are_distributions(outputs: Float[torch.Tensor, "rows outputs *grid"]) -> bool:
    """Returns whether every row is a distribution: nothing below 0, and the sum is 1."""
    return bool((outputs >= 0).all() and ((outputs.double().sum(dim=1) - 1).abs() < SUM_TOLERANCE).all())


def check_kind(outputs: Float[torch.Tensor, "rows outputs *grid"], said: OutputKind | None, where: object) -> None:
    """Raises ModelError where outputs are not of the kind that they are said to be.

    Args:
        said: None: nothing is said. Then they are taken for logits, and refused where they look
            like probabilities.
    """
    least, most = float(outputs.min()), float(outputs.max())
    if said is None:
        found = _looks_like_probabilities(outputs, least, most)
        if found:
            fix = "say outputs: probabilities or sigmoids (or outputs: logits, if they are logits all the same)"
            raise ModelError(where, f"its outputs look like probabilities: {found}", expected="logits", fix=fix)
    elif said in ("probabilities", "sigmoids") and (least < 0 or most > 1 + SUM_TOLERANCE):
        _refuse(where, least, most, said, "0 to 1")
    elif said == "log_probs" and most > SUM_TOLERANCE:
        _refuse(where, least, most, said, "nothing above 0")


def _looks_like_probabilities(outputs: Float[torch.Tensor, "rows outputs *grid"], least: float, most: float) -> str:
    """Returns the sign by which they are known, or an empty text."""
    if are_distributions(outputs):
        return "each row sums up to 1"
    if 0 <= least < _LOW and _HIGH < most <= 1:
        return "all are within 0 and 1"
    return ""


def _refuse(where: object, least: float, most: float, said: OutputKind, expected: str) -> None:
    found = f"outputs: {said}, but they are {least:.3g} to {most:.3g}"
    raise ModelError(where, found, expected=expected, fix="say what the network gives: outputs: logits")
