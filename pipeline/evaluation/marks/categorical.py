"""The marks of one class of several."""

from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64

from pipeline.evaluation.breakdown import class_accuracies, class_counts, confusions, top_k_accuracy
from pipeline.evaluation.marks.base import HeldOut, Marked, Marks
from pipeline.results.evaluation import Scores
from pipeline.signals import HardLabels, Outputs
from pipeline.signals.categorical import CATEGORICAL
from pipeline.signals.metrics import (
    agreement,
    classification_metrics,
    kl_to_teacher,
    kl_to_teacher_of_each,
    likeliest,
    reliability,
)
from pipeline.signals.pieces import by_pieces

_LEAST_CLASSES_FOR_TOP5 = 10


@final
class CategoricalMarks(Marks):
    """The marks of one class of several. The answers are those of `answers`."""

    signal = CATEGORICAL

    def mark(
        self,
        outputs: Outputs,
        hard_labels: HardLabels,
        teacher_outputs: Outputs | None,
        validation: HeldOut | None,
    ) -> Marked:
        said = answers(outputs, hard_labels, teacher_outputs)
        return Marked(
            score(outputs, hard_labels, teacher_outputs),
            said,
            said["predicted"] == hard_labels,
            reliability(outputs, hard_labels),
            confusions(said["predicted"], hard_labels),
        )

    def class_counts(self, hard_labels: HardLabels, num_classes: int) -> list[int]:
        return class_counts(hard_labels, num_classes)


def score(logits: Outputs, hard_labels: Int64[torch.Tensor, " samples"], teacher_logits: Outputs | None) -> Scores:
    """Returns how well the logits fit the hard labels, and how near they are to the teacher's."""
    num_classes = logits.shape[1]
    figures: dict[str, Any] = {**classification_metrics(logits, hard_labels)}
    return Scores(
        **figures,
        top5_accuracy=top_k_accuracy(logits, hard_labels, 5) if num_classes >= _LEAST_CLASSES_FOR_TOP5 else None,
        class_accuracy=class_accuracies(logits.argmax(dim=1), hard_labels, num_classes),
        agreement=None if teacher_logits is None else agreement(logits, teacher_logits),
        kl_to_teacher=None if teacher_logits is None else kl_to_teacher(logits, teacher_logits),
    )


def answers(
    logits: Outputs, hard_labels: Int64[torch.Tensor, " samples"], teacher_logits: Outputs | None
) -> dict[str, torch.Tensor]:
    """Returns the answer that logits are on each sample, at temperature 1.

    `predicted` is the likeliest class, `confidence` its probability, `hard_prob` that of the hard
    label, and `kl_to_teacher` is KL(teacher || network) in nats, where there is a teacher.
    """
    confidence, predicted = likeliest(logits)
    hard_prob = by_pieces(_prob_of_label, logits, hard_labels)
    found = {"predicted": predicted.int(), "confidence": confidence.float(), "hard_prob": hard_prob.float()}
    if teacher_logits is not None:
        found["kl_to_teacher"] = kl_to_teacher_of_each(logits, teacher_logits).float()
    return found


def _prob_of_label(logits: Outputs, hard_labels: Int64[torch.Tensor, " samples"]) -> Float[torch.Tensor, " samples"]:
    return F.softmax(logits.double(), dim=1).gather(1, hard_labels[:, None])[:, 0]
