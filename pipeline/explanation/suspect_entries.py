"""Entries of independent classes that are probably wrong, by the soft labels of a store alone.

A suspect is an entry (a sample and a class) and not a sample: each class is a question of yes or no
of its own, and is judged as confident learning judges two classes. Entries that are unknown are no
suspects.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int8

from pipeline.explanation.opinions import Opinions
from pipeline.explanation.suspects import Judged, Suspicions

Entries = Int8[np.ndarray, "samples classes"]
Probs = Float[np.ndarray, "samples classes"]


def entry_answers(class_names: Sequence[str]) -> list[str]:
    """Returns the names of the answers of `judge_entries`: each class's no, and its yes."""
    return [answer for name in class_names for answer in (f"not {name}", name)]


def judge_entries(opinions: Opinions, entries: Entries, num_classes: int) -> Judged:
    """Returns the entries that are probably wrong, the worst first; answers are numbered as
    `entry_answers` names them.

    References:
        Curtis G. Northcutt, Lu Jiang, Isaac L. Chuang, "Confident Learning: Estimating Uncertainty
        in Dataset Labels", 2019, arXiv 1911.00068, section 3.1, equations 1 and 2.
    """
    thresholds, parts, num_wrong, num_checked = entry_thresholds(opinions, entries, num_classes), [], 0, 0
    for part in opinions():
        own = entries[part.places]
        num_wrong += int((_confident(part.probs, thresholds) == 1 - own)[own >= 0].sum())
        num_checked += int((own >= 0).sum())
        # Only these can be suspects: all entries together would take more memory than the labels.
        rows, classes = np.nonzero((own >= 0) & ((part.probs > 0.5) != (own == 1)))
        says, no = 1 - own[rows, classes].astype(np.int64), 1 - part.probs[rows, classes]
        other = np.where(says == 1, 1 - no, no)
        answers = 2 * classes + 1 - says, 2 * classes + says
        parts.append(Suspicions(part.places[rows], *answers, 1 - other, other))
    return Judged(Suspicions.of(parts).worst(num_wrong), num_checked)


def _confident(probs: Probs, thresholds: Float[np.ndarray, "2 classes"]) -> Int8[np.ndarray, "samples classes"]:
    """Returns the likelier answer of those that reach their threshold; -2 where none does."""
    no, yes = (1 - probs) >= thresholds[0], probs >= thresholds[1]
    is_yes: Bool[np.ndarray, "samples classes"] = yes & (~no | (probs > 0.5))
    return np.where(is_yes, 1, np.where(no, 0, -2)).astype(np.int8)


def entry_thresholds(opinions: Opinions, entries: Entries, num_classes: int) -> Float[np.ndarray, "2 classes"]:
    """Returns the mean probability of a class's no over the entries that are 0, and of its yes over
    those that are 1; infinite where there is none.
    """
    totals, counts = np.zeros((2, num_classes)), np.zeros((2, num_classes))
    for part in opinions():
        for answer, probs in enumerate((1 - part.probs, part.probs)):
            own = entries[part.places] == answer
            totals[answer] += (probs * own).sum(axis=0)
            counts[answer] += own.sum(axis=0)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.inf)
