"""DIST: the correlations of student and teacher, over classes and over the examples of a batch."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor

from pipeline.core.bounds import Weight
from pipeline.core.config import STRICT
from pipeline.student.losses.base import SoftLoss

_MIN_NORMS = 1e-8  # of a product of two norms


def dist(
    logits: Float[Tensor, "batch classes"],
    soft_targets: Float[Tensor, "batch classes"],
    *,
    temperature: float,
    inter_class_weight: float,
    intra_class_weight: float,
) -> Float[Tensor, " batch"]:
    """Returns how far the correlations of both sides' probabilities are from 1.

        temperature^2 * (inter_weight * (1 - r_example) + intra_weight * (1 - mean r_class))

    r_example is the correlation over the classes of an example, r_class that over the examples for
    a class. `soft_targets` are the teacher's log-probabilities at `temperature`, or at another one
    that the row names; the square is the student's.

    It is a loss of the batch. The second term is one number, which every example carries, so an
    example's value depends on the others; the mean is the paper's loss. The second term is left out
    for a batch of one, which has no correlation. Anything constant has a correlation of 0.

    >>> student = torch.tensor([[2, -1, 0.5, 0], [0.3, 1.2, -0.7, 2.2], [-1.5, 0, 3, 1]])
    >>> teacher = torch.tensor([[4, -2, 1, 0.5], [1, 0, -1, 5], [0, -0.5, 2, 3]])
    >>> weights = {"inter_class_weight": 1.0, "intra_class_weight": 1.0}
    >>> for temperature in (1.0, 4.0):
    ...     soft_targets = torch.log_softmax(teacher / temperature, dim=1)
    ...     print(f"{dist(student, soft_targets, temperature=temperature, **weights).mean():.5f}")
    0.69691
    5.06722

    References:
        Tao Huang, Shan You, Fei Wang, Chen Qian, Chang Xu, "Knowledge Distillation from A Stronger
        Teacher", 2022, arXiv 2205.10536, section 4.
    """
    student, teacher = F.softmax(logits / temperature, dim=1), soft_targets.exp()
    value = inter_class_weight * (1 - _pearson(student, teacher, dim=1))
    if len(logits) > 1:
        value = value + intra_class_weight * (1 - _pearson(student, teacher, dim=0).mean())
    return temperature**2 * value


def _pearson(one: Tensor, other: Tensor, dim: int) -> Tensor:
    one, other = one - one.mean(dim=dim, keepdim=True), other - other.mean(dim=dim, keepdim=True)
    norms: Tensor = torch.linalg.vector_norm(one, dim=dim) * torch.linalg.vector_norm(other, dim=dim)
    return (one * other).sum(dim=dim) / (norms + _MIN_NORMS)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Dist(SoftLoss):
    """The settings of `dist`, a loss of the batch: another batch size is another loss."""

    inter_class_weight: Weight
    intra_class_weight: Weight

    kind = "dist"
    learns_from = ("every class",)
    takes_label_temperature = True
    compares_examples = True

    def _values(self, logits: Tensor, targets: Tensor, hard_labels: Tensor, temperature: float, epoch: int) -> Tensor:
        return dist(
            logits,
            targets,
            temperature=temperature,
            inter_class_weight=self.inter_class_weight,
            intra_class_weight=self.intra_class_weight,
        )
