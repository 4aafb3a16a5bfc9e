"""Knowledge distillation: the KL divergence of the student from the teacher's soft targets."""

from typing import Any

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor

from pipeline.core.config import STRICT
from pipeline.labels.targets import SparseTargets
from pipeline.signals.losses import kl_divergence_with_log_targets
from pipeline.student.blends import Blend, OfClasses
from pipeline.student.losses.base import SoftLoss


def knowledge_distillation(
    logits: Float[Tensor, "batch classes"],
    soft_targets: Float[Tensor, "batch classes"] | SparseTargets,
    *,
    temperature: float,
) -> Float[Tensor, " batch"]:
    """Returns the divergence of the student at `temperature` from the teacher, in nats.

        temperature^2 * KL(teacher || student)

    `soft_targets` are the teacher's log-probabilities, at that temperature already: of every class,
    or of the kept classes and the rest. Then the student is summed up over the same set.

    The square is the student's temperature alone, whatever the labels'. Then the gradient for a
    logit z is

        d loss / dz = temperature * (student - teacher)

    a difference of probabilities, which keeps its size when either temperature changes: with labels
    at 4 and a student at 1 it is that of a cross-entropy against flatter targets.

    >>> student = torch.tensor([[2, -1, 0.5, 0], [0.3, 1.2, -0.7, 2.2], [-1.5, 0, 3, 1]])
    >>> teacher = torch.tensor([[4, -2, 1, 0.5], [1, 0, -1, 5], [0, -0.5, 2, 3]])
    >>> for temperature in (1.0, 2.0, 4.0):
    ...     soft_targets = torch.log_softmax(teacher / temperature, dim=1)
    ...     loss = knowledge_distillation(student, soft_targets, temperature=temperature)
    ...     print(f"{loss.mean():.5f}")
    0.49242
    0.80343
    0.91460

    References:
        Geoffrey Hinton, Oriol Vinyals, Jeff Dean, "Distilling the Knowledge in a Neural Network",
        2015, arXiv 1503.02531, section 2.
    """
    if isinstance(soft_targets, SparseTargets):
        return temperature**2 * kl_divergence_with_sparse_targets(soft_targets, logits / temperature)
    return temperature**2 * kl_divergence_with_log_targets(soft_targets, logits / temperature)


def kl_divergence_with_sparse_targets(
    targets: SparseTargets, logits: Float[Tensor, "batch classes"]
) -> Float[Tensor, " batch"]:
    """Returns the divergence over the kept classes and one bucket of all others, in nats.

        sum over kept c of p_c * (log p_c - log q_c), plus p_rest * (log p_rest - log q_rest)

    p is the teacher and q = softmax(logits), both over the same set. With every class but one kept
    it is the dense divergence. Classes of probability 0 count nothing.
    """
    log_student, num_classes = torch.log_softmax(logits, dim=1), logits.shape[1]
    # 1. The kept classes. Padding (probability 0) is looked up at class 0 and counts nothing.
    is_kept = targets.log_probs > -torch.inf
    kept = targets.log_probs.exp()
    log_student_kept = log_student.gather(1, torch.where(is_kept, targets.classes, 0))
    terms = torch.where(is_kept, kept * (targets.log_probs - log_student_kept), 0.0).sum(dim=1)
    if targets.log_rest is None:
        return terms
    # 2. The bucket of the others by its own sum: 1 minus the kept classes would cancel where the
    # student is sure. Padding is marked in a column of its own, so that it takes no class from it.
    marked = torch.zeros(len(logits), num_classes + 1, dtype=torch.bool, device=logits.device)
    marked.scatter_(1, torch.where(is_kept, targets.classes, num_classes), True)
    log_others = log_student.masked_fill(marked[:, :num_classes], -torch.inf).logsumexp(dim=1)
    rest = targets.log_rest.exp()
    return terms + torch.where(rest > 0, rest * (targets.log_rest - log_others), 0.0)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Kd(SoftLoss):
    """The settings of `knowledge_distillation`: none, temperatures are the student's row's."""

    kind = "kd"
    learns_from = ("every class", "filled tail", "some classes")
    takes_label_temperature = True

    def _values(self, logits: Tensor, targets: Any, hard_labels: Tensor, temperature: float, epoch: int) -> Tensor:
        return knowledge_distillation(logits, targets, temperature=temperature)

    def blend(self, soft_targets: Any, temperature: float) -> Blend | None:
        if self.standardize or not isinstance(soft_targets, Tensor):
            return None
        slopes = soft_targets.exp().mul_(-(temperature**2))
        return Blend({temperature: OfClasses(slopes)}, -(slopes * soft_targets).sum(dim=1))
