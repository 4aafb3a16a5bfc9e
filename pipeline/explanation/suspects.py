"""Training samples whose hard label is probably wrong, by the soft labels of a store alone: the
teacher is not run.

Their number is that of confident learning. Their order is by the odds of the teacher's class
against the hard label. Confident learning ranks by the margin between the two, which prefers
samples that the teacher is sure of; it is less sure of samples that it was trained to call
otherwise (`benchmarks/mislabelled.py` has figures).

The teacher has mostly been trained on these very labels. One that knows them by heart repeats the
wrong ones: then fewer are counted, and the list is short rather than wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from pipeline.explanation.opinions import Opinions


@dataclass(frozen=True)
class Suspicions:
    """The teacher's view of hard labels that were checked.

    An answer is the number of a class or, of independent classes, that of a class's yes or no.

    Attributes:
        hard_labels: The answers that hard labels have.
        teacher_says: The teacher's likeliest answer except the hard label, with probability
            `teacher_probs`.
        hard_probs: The teacher's probability of the hard label.
    """

    places: Int64[np.ndarray, " checked"]
    hard_labels: Int64[np.ndarray, " checked"]
    teacher_says: Int64[np.ndarray, " checked"]
    hard_probs: Float[np.ndarray, " checked"]
    teacher_probs: Float[np.ndarray, " checked"]

    def __len__(self) -> int:
        return len(self.places)

    @classmethod
    def none(cls) -> "Suspicions":
        """Returns the suspicions about no sample."""
        classes, probs = np.empty(0, dtype=np.int64), np.empty(0)
        return cls(classes, classes, classes, probs, probs)

    @classmethod
    def of(cls, parts: Sequence["Suspicions"]) -> "Suspicions":
        """Returns the suspicions of all parts, one after the other."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})

    @property
    def suspicion(self) -> Float[np.ndarray, " checked"]:
        """The probability of the teacher's class if it is either this one or the hard label, 0 to
        1.

        It is above 0.5 where the teacher's class is the likelier one.
        """
        odds: np.ndarray = self.teacher_probs / (self.teacher_probs + self.hard_probs)
        return odds

    def worst(self, count: int) -> "Suspicions":
        """Returns the most suspicious, at most `count`, worst first, of those for which the teacher
        predicts another class.

        Equally suspicious ones keep their order in the split.
        """
        order = np.lexsort((self.hard_labels, self.places, -self.suspicion))
        return self.take(order[self.teacher_probs[order] > self.hard_probs[order]][:count])

    def take(self, rows: Int64[np.ndarray, " some"]) -> "Suspicions":
        """Returns the suspicions about some of the samples."""
        return Suspicions(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True)
class Judged:
    """The suspects among hard labels, the worst first, and the number of those that were
    checked.
    """

    suspects: Suspicions
    num_checked: int


def judge_classes(opinions: Opinions, hard_labels: Int64[np.ndarray, " samples"], num_classes: int) -> Judged:
    """Returns the samples that are probably mislabelled."""
    everything, count = judge(opinions, hard_labels, num_classes)
    return Judged(everything.worst(count), len(everything))


def judge(opinions: Opinions, hard_labels: Int64[np.ndarray, " samples"], num_classes: int) -> tuple[Suspicions, int]:
    """Returns every sample's suspicion, and the number of samples that are probably mislabelled.

    These are the samples off the diagonal of the confident joint. It counts a sample as one of
    class j where j is the likeliest of the classes whose probability reaches the class's threshold:
    the mean probability of that class over the samples that have its label.

    References:
        Curtis G. Northcutt, Lu Jiang, Isaac L. Chuang, "Confident Learning: Estimating Uncertainty
        in Dataset Labels", 2019, arXiv 1911.00068, section 3.1, equations 1 and 2.
    """
    thresholds = class_thresholds(opinions, hard_labels, num_classes)
    parts, num_off_diagonal = [], 0
    for part in opinions():
        labels, rows = hard_labels[part.places], np.arange(len(part.places))
        # 1. The confident joint: the likeliest class among those that reach their threshold.
        confident = np.where(part.probs >= thresholds, part.probs, -1.0)
        named = confident.argmax(axis=1)
        num_off_diagonal += int(((confident[rows, named] >= 0) & (named != labels)).sum())
        # 2. The odds: the likeliest class except the hard label, against the hard label.
        others = part.probs.copy()
        others[rows, labels] = -1.0
        says = others.argmax(axis=1)
        parts.append(Suspicions(part.places, labels, says, part.probs[rows, labels], part.probs[rows, says]))
    return Suspicions.of(parts), num_off_diagonal


def class_thresholds(
    opinions: Opinions, hard_labels: Int64[np.ndarray, " samples"], num_classes: int
) -> Float[np.ndarray, " classes"]:
    """Returns each class's mean probability over the samples that have its label; infinite for a
    class without any.
    """
    totals, counts = np.zeros(num_classes), np.zeros(num_classes)
    for part in opinions():
        labels = hard_labels[part.places]
        own = part.probs[np.arange(len(labels)), labels]
        totals += np.bincount(labels, weights=own, minlength=num_classes)
        counts += np.bincount(labels, minlength=num_classes)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.inf)
