"""Normalised knowledge distillation: cross-entropies of the hard label and of the other classes."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from pydantic.dataclasses import dataclass

from pipeline.core.bounds import Weight
from pipeline.core.config import STRICT
from pipeline.student.losses.base import SoftLoss
from pipeline.student.losses.other_classes import other_classes


def normalised_knowledge_distillation(
    logits: Float[torch.Tensor, "batch classes"],
    soft_targets: Float[torch.Tensor, "batch classes"],
    hard_labels: Int64[torch.Tensor, " batch"],
    *,
    temperature: float,
    gamma: float,
) -> Float[torch.Tensor, " batch"]:
    """Returns the hard label's cross-entropy, and gamma times that over the other classes.

        -p_y * log q_y - gamma * temperature^2 * sum over c != y of p'_c * log q'_c

    p is the teacher, q the student and y the hard label, at temperature 1; p' and q' are both sides
    over the other classes alone, at `temperature`. The least value is not 0. `soft_targets` are the
    teacher's log-probabilities at `temperature`.

    The teacher at temperature 1 is computed from its soft targets. With a filled tail that is only
    approximate unless `temperature` is 1.

    >>> student = torch.tensor([[2, -1, 0.5, 0], [0.3, 1.2, -0.7, 2.2], [-1.5, 0, 3, 1]])
    >>> teacher = torch.tensor([[4, -2, 1, 0.5], [1, 0, -1, 5], [0, -0.5, 2, 3]])
    >>> soft_targets, hard_labels = torch.log_softmax(teacher, dim=1), torch.tensor([0, 3, 2])
    >>> settings = {"temperature": 1.0, "gamma": 1.5}
    >>> loss = normalised_knowledge_distillation(student, soft_targets, hard_labels, **settings)
    >>> print(f"{loss.mean():.5f}")
    1.54696

    References:
        Zhendong Yang, Ailing Zeng, Zhe Li, Tianke Zhang, Chun Yuan, Yu Li, "From Knowledge
        Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and
        Customized Soft Labels", 2023, arXiv 2303.13005, section 3.
    """
    # 1. The hard label, at temperature 1.
    column = hard_labels[:, None]
    log_teacher = F.log_softmax(temperature * soft_targets, dim=1).gather(1, column).squeeze(1)
    target = -log_teacher.exp() * F.log_softmax(logits, dim=1).gather(1, column).squeeze(1)
    # 2. The other classes among themselves.
    others = other_classes(hard_labels, logits.shape[1])
    teacher_others = F.softmax(soft_targets.gather(1, others), dim=1)
    log_student_others = F.log_softmax(logits.gather(1, others) / temperature, dim=1)
    return target - gamma * temperature**2 * (teacher_others * log_student_others).sum(dim=1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Nkd(SoftLoss):
    """The settings of `normalised_knowledge_distillation`."""

    gamma: Weight

    kind = "nkd"
    learns_from = ("every class", "filled tail")
    needs_hard_label = True

    def _values(
        self, logits: torch.Tensor, targets: torch.Tensor, hard_labels: torch.Tensor, temperature: float, epoch: int
    ) -> torch.Tensor:
        return normalised_knowledge_distillation(
            logits, targets, hard_labels, temperature=temperature, gamma=self.gamma
        )
