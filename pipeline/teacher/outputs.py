"""The check that an imported classifier's outputs are in the order of the data's classes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, Integer

from pipeline.core.errors import ModelError
from pipeline.core.progress import say
from pipeline.signals import HardLabels, Outputs, Signal
from pipeline.signals.categorical import CATEGORICAL
from pipeline.signals.chance import chance_level, check_above_chance

_STANDARD_ERRORS = 3.0
_FAR = 2.0  # another order is right so many times as often, or wrong so many times as seldom
_MOST_SIGNS = 120  # of a class_map in a message
_ENTRIES = 5  # of a class_map in a line of its own


@dataclass(frozen=True)
class ImportedOutputs:
    """The outputs of a classifier that was made elsewhere.

    Attributes:
        where: The name of the classifier, for messages.
        groups: The outputs that stand for each class; None: output and class have one number.
    """

    where: object
    class_names: Sequence[str]
    groups: Sequence[Sequence[int]] | None
    signal: Signal = CATEGORICAL

    def check(self, logits: Outputs, hard_labels: HardLabels) -> None:
        """Raises ModelError where the outputs are in another order, or no better than chance.

        Another order is looked for among classes of one softmax; independent ones in another order
        are no better than chance.
        """
        if self.signal.is_independent:
            check_above_chance(logits, hard_labels, self.where, self.signal)
            return
        count = len(hard_labels)
        predicted, labels = (each.numpy().reshape(count, -1) for each in (logits.argmax(dim=1), hard_labels))
        given = _shares(predicted == labels, labels)
        right = _right_in_best_order(predicted, labels, len(self.class_names))
        best = best_order(predicted, labels, len(self.class_names))
        if self._knows(logits[:, torch.from_numpy(best)], hard_labels, right) and _is_far_better(right, given):
            found = f"accuracy {given.mean():.2%} on {count:,} labelled images"
            better = f"{right.mean():.2%} with its outputs in another order"
            raise ModelError(self.where, f"{found}, but {better}", fix=f"set class_map: {self._map(best)}")
        check_above_chance(logits, hard_labels, self.where, self.signal)

    def _knows(self, logits: Outputs, hard_labels: HardLabels, right: Float64[np.ndarray, " samples"]) -> bool:
        """Returns whether outputs in the best order are better than chance."""
        if self.signal.kind == "categorical":
            return bool(right.mean() > chance_level(logits, hard_labels))
        return self.signal.score(logits, hard_labels) > self.signal.chance(logits, hard_labels)

    def _map(self, order: Int64[np.ndarray, " classes"]) -> str:
        """Returns the class_map of an order; a long one is printed, and named."""
        groups = self.groups or [[number] for number in range(len(self.class_names))]
        mapped = {name: list(groups[output]) for name, output in zip(self.class_names, order.tolist(), strict=True)}
        text = json.dumps(mapped, ensure_ascii=False)
        if len(text) <= _MOST_SIGNS:
            return text
        entries = [json.dumps({name: outputs}, ensure_ascii=False)[1:-1] for name, outputs in mapped.items()]
        borders = [*range(0, len(entries), _ENTRIES), len(entries)]
        say("class_map: {\n" + ",\n".join(f"  {', '.join(entries[a:b])}" for a, b in pairwise(borders)) + "\n}")
        return "the lines printed above"


def best_order(
    predicted: Int64[np.ndarray, "samples places"], labels: Integer[np.ndarray, "samples places"], num_classes: int
) -> Int64[np.ndarray, " classes"]:
    """Returns for each class the output that stands for it, so that most predictions are right.

    Of equally good orders it is the one that moves the fewest outputs. A sample has one place, or
    those of a map, of which some are unknown (-1).

    References:
        Harold W. Kuhn, "The Hungarian method for the assignment problem", 1955.
    """
    from scipy.optimize import linear_sum_assignment

    known = labels >= 0
    pairs = labels[known].astype(np.int64) * num_classes + predicted[known]
    counts = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    _, order = linear_sum_assignment(counts * (num_classes + 1) + np.eye(num_classes, dtype=np.int64), maximize=True)
    return np.asarray(order, np.int64)


def _shares(
    right: Bool[np.ndarray, "samples places"], labels: Integer[np.ndarray, "samples places"]
) -> Float64[np.ndarray, " samples"]:
    """Returns the share of each sample's known places that are right."""
    known = labels >= 0
    return np.asarray((right & known).sum(axis=1) / known.sum(axis=1).clip(min=1), np.float64)


def _right_in_best_order(
    predicted: Int64[np.ndarray, "samples places"], labels: Integer[np.ndarray, "samples places"], num_classes: int
) -> Float64[np.ndarray, " samples"]:
    """Returns the share of each sample's places that the best order makes right.

    Each half is judged by the order that fits the other half best: an order that is judged by the
    predictions that chose it looks better than it is.
    """
    right, half = np.zeros(len(labels)), np.arange(len(labels)) % 2 == 0
    for some in (half, ~half):
        order = best_order(predicted[~some], labels[~some], num_classes)
        right[some] = _shares(order[labels[some]] == predicted[some], labels[some])
    return right


def _is_far_better(right: Float64[np.ndarray, " samples"], given: Float64[np.ndarray, " samples"]) -> bool:
    """Returns whether one order is right far more often than the given one, beyond mere chance."""
    gain = right - given
    if gain.mean() <= _STANDARD_ERRORS * gain.std() / np.sqrt(len(gain)):
        return False
    return bool(right.mean() >= _FAR * given.mean() or 1 - given.mean() >= _FAR * (1 - right.mean()))
