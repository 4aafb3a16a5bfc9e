"""Logits of the test split to scores of a network, and to its answer on each sample."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int32, Int64

from pipeline.evaluation.breakdown import class_accuracies, top_k_accuracy
from pipeline.results.evaluation import Scores
from pipeline.signals.metrics import (
    agreement,
    classification_metrics,
    kl_to_teacher,
    kl_to_teacher_of_each,
    likeliest,
)
from pipeline.signals.pieces import by_pieces

_LEAST_CLASSES_FOR_TOP5 = 10

Logits = Float[torch.Tensor, "samples classes"]


def score(logits: Logits, hard_labels: Int64[torch.Tensor, " samples"], teacher_logits: Logits | None) -> Scores:
    """Returns how well the logits fit the hard labels, and how near they are to the teacher's."""
    num_classes = logits.shape[1]
    return Scores(
        **classification_metrics(logits, hard_labels),
        top5_accuracy=top_k_accuracy(logits, hard_labels, 5) if num_classes >= _LEAST_CLASSES_FOR_TOP5 else None,
        class_accuracy=class_accuracies(logits.argmax(dim=1), hard_labels, num_classes),
        agreement=None if teacher_logits is None else agreement(logits, teacher_logits),
        kl_to_teacher=None if teacher_logits is None else kl_to_teacher(logits, teacher_logits),
    )


@dataclass(frozen=True)
class Answers:
    """A network's answer on each test sample, at temperature 1.

    Attributes:
        predicted: The likeliest class, with probability `confidence`.
        hard_prob: The probability of the hard label.
        kl_to_teacher: KL(teacher || network) in nats; None for the teacher itself and where there
            is none.
    """

    predicted: Int32[torch.Tensor, " samples"]
    confidence: Float32[torch.Tensor, " samples"]
    hard_prob: Float32[torch.Tensor, " samples"]
    kl_to_teacher: Float32[torch.Tensor, " samples"] | None

    @classmethod
    def of(
        cls, logits: Logits, hard_labels: Int64[torch.Tensor, " samples"], teacher_logits: Logits | None
    ) -> "Answers":
        """Returns the answers that logits are."""
        confidence, predicted = likeliest(logits)
        hard_prob = by_pieces(_prob_of_label, logits, hard_labels).float()
        kl = None if teacher_logits is None else kl_to_teacher_of_each(logits, teacher_logits).float()
        return cls(predicted.int(), confidence.float(), hard_prob, kl)

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Returns the answers by name, such as `small.predicted`, as they are stored."""
        return {f"{name}.{key}": values for key, values in vars(self).items() if values is not None}


def _prob_of_label(logits: Logits, hard_labels: Int64[torch.Tensor, " samples"]) -> Float[torch.Tensor, " samples"]:
    return F.softmax(logits.double(), dim=1).gather(1, hard_labels[:, None])[:, 0]
