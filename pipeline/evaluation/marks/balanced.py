"""The marks of one class of several where every class counts the same, however rare it is."""

from dataclasses import replace
from typing import Any, final

from pipeline.evaluation.balanced import balanced_accuracy, class_weights_of, macro_f1
from pipeline.evaluation.marks.base import HeldOut, Marked, Marks
from pipeline.evaluation.marks.categorical import CategoricalMarks
from pipeline.signals import HardLabels, Outputs
from pipeline.signals.categorical import CATEGORICAL
from pipeline.signals.metrics import accuracy


@final
class BalancedMarks(Marks):
    """The marks of one class of several, with balanced accuracy as the headline, and macro F1.

    The evidence on a sample is its weight where the network is right, and else 0: the mean is
    balanced accuracy, so that gains and their errors are those of it. The numbers of samples of the
    classes are taken as given.
    """

    signal = CATEGORICAL
    headline = "balanced_accuracy"

    def mark(
        self,
        outputs: Outputs,
        hard_labels: HardLabels,
        teacher_outputs: Outputs | None,
        validation: HeldOut | None,
    ) -> Marked:
        found = CategoricalMarks().mark(outputs, hard_labels, teacher_outputs, validation)
        own: dict[str, Any] = {"headline": self.score(outputs, hard_labels), "macro_f1": macro_f1(outputs, hard_labels)}
        return replace(
            found, scores=replace(found.scores, **own), evidence=found.evidence * class_weights_of(hard_labels)
        )

    def score(self, outputs: Outputs, hard_labels: HardLabels) -> float:
        return balanced_accuracy(outputs, hard_labels)

    def class_counts(self, hard_labels: HardLabels, num_classes: int) -> list[int]:
        return CategoricalMarks().class_counts(hard_labels, num_classes)

    def best_epoch(self, outputs: Outputs, hard_labels: HardLabels) -> dict[str, float | None]:
        return {"accuracy_best": accuracy(outputs, hard_labels), "headline_best": self.score(outputs, hard_labels)}
