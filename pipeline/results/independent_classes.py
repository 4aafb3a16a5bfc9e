"""The figures of a network that only independent classes have."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class IndependentScores:
    """The quality of a network's entries, a yes or a no for each sample and class.

    Attributes:
        threshold: The probability from which on an entry is a yes: that of the largest micro F1 on
            the validation split.
        f1_micro: Of all known entries together, at that threshold, 0 to 1.
        f1_macro: The mean over the classes that any test sample is of.
        auc: The mean area under the ROC curve of classes; None in files of earlier versions.
        class_precision: The average precision of each class; None for a class that no sample is of.
        class_missed: The samples of each class that are a no at that threshold.
        class_invented: The samples that are known not to be of each class, and are a yes.
    """

    threshold: float
    f1_micro: float
    f1_macro: float
    class_precision: list[float | None]
    class_missed: list[int]
    class_invented: list[int]
    auc: float | None = None
