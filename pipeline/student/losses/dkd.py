"""Decoupled knowledge distillation: the hard label and the other classes, weighted apart."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from pydantic.dataclasses import dataclass
from torch import Tensor

from pipeline.core.bounds import Epochs, Weight
from pipeline.core.config import STRICT
from pipeline.signals.losses import kl_divergence_with_log_targets
from pipeline.student.losses.base import SoftLoss
from pipeline.student.losses.other_classes import other_classes


def decoupled_knowledge_distillation(
    logits: Float[Tensor, "batch classes"],
    soft_targets: Float[Tensor, "batch classes"],
    hard_labels: Int64[Tensor, " batch"],
    *,
    temperature: float,
    target_weight: float,
    other_weight: float,
) -> Float[Tensor, " batch"]:
    """Returns the weighted divergences of the hard label's part and of the other classes' part.

        temperature^2 * (target_weight * TCKD + other_weight * NCKD)

    TCKD is the KL of the pair (hard label, all other classes), NCKD the KL over the other classes
    among themselves. With two classes NCKD is 0. `soft_targets` are the teacher's log-probabilities
    at `temperature`, or at another one that the row names; the square is the student's.

    Knowledge distillation is the same with target_weight 1 and, example by example, the teacher's
    probability of the other classes for other_weight: small where the teacher is sure.

    >>> student = torch.tensor([[2, -1, 0.5, 0], [0.3, 1.2, -0.7, 2.2], [-1.5, 0, 3, 1]])
    >>> teacher = torch.tensor([[4, -2, 1, 0.5], [1, 0, -1, 5], [0, -0.5, 2, 3]])
    >>> soft_targets, hard_labels = torch.log_softmax(teacher / 4, dim=1), torch.tensor([0, 3, 2])
    >>> for target_weight, other_weight in [(1.0, 8.0), (1.0, 0.0), (0.0, 1.0)]:
    ...     loss = decoupled_knowledge_distillation(
    ...         student,
    ...         soft_targets,
    ...         hard_labels,
    ...         temperature=4.0,
    ...         target_weight=target_weight,
    ...         other_weight=other_weight,
    ...     )
    ...     print(f"{loss.mean():.5f}")
    3.54849
    0.70119
    0.35591

    References:
        Borui Zhao, Quan Cui, Renjie Song, Yiyu Qiu, Jiajun Liang, "Decoupled Knowledge
        Distillation", 2022, arXiv 2203.08679, section 3.
    """
    log_student = F.log_softmax(logits / temperature, dim=1)
    others = other_classes(hard_labels, logits.shape[1])
    # 1. TCKD: two classes, the hard label and all the others in one.
    student_pair, teacher_pair = (_pair(log_probs, hard_labels, others) for log_probs in (log_student, soft_targets))
    target = F.kl_div(student_pair, teacher_pair, reduction="none", log_target=True).sum(dim=1)
    # 2. NCKD: the others alone, renormalised on both sides.
    log_teacher_others = F.log_softmax(soft_targets.gather(1, others), dim=1)
    other = kl_divergence_with_log_targets(log_teacher_others, log_student.gather(1, others))
    return temperature**2 * (target_weight * target + other_weight * other)


def _pair(log_probs: Tensor, hard_labels: Tensor, others: Tensor) -> Float[Tensor, "batch 2"]:
    """Returns the log-probabilities of the hard label and of all other classes together.

    The latter by their own sum: log(1 - p) is -inf where p rounds to 1.
    """
    rest = log_probs.gather(1, others).logsumexp(dim=1, keepdim=True)
    return torch.cat([log_probs.gather(1, hard_labels[:, None]), rest], dim=1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Dkd(SoftLoss):
    """The settings of `decoupled_knowledge_distillation`, and its warm-up.

    The loss grows in equal steps over the first `warmup_epochs` epochs:

        min((epoch + 1) / warmup_epochs, 1) * loss
    """

    target_weight: Weight
    other_weight: Weight
    warmup_epochs: Epochs

    kind = "dkd"
    learns_from = ("every class", "filled tail")
    takes_label_temperature = True
    needs_hard_label = True

    def _values(self, logits: Tensor, targets: Tensor, hard_labels: Tensor, temperature: float, epoch: int) -> Tensor:
        values = decoupled_knowledge_distillation(
            logits,
            targets,
            hard_labels,
            temperature=temperature,
            target_weight=self.target_weight,
            other_weight=self.other_weight,
        )
        return min((epoch + 1) / self.warmup_epochs, 1.0) * values

    def warmed_up(self) -> SoftLoss:
        """Returns the loss with its whole weight from the first epoch on."""
        return replace(self, warmup_epochs=1)
