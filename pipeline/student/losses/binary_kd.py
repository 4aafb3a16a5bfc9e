"""Knowledge distillation of independent classes: the divergence of each class's two outcomes."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor

from pipeline.core.config import STRICT
from pipeline.signals.binary import bernoulli_divergence
from pipeline.student.blends import Blend, OfOdds
from pipeline.student.losses.base import SoftLoss


def binary_distillation(
    log_odds: Float[Tensor, "batch classes"],
    soft_targets: Float[Tensor, "batch classes"],
    *,
    temperature: float,
) -> Float[Tensor, " batch"]:
    """Returns the divergence of the student at `temperature` from the teacher, in nats.

        temperature^2 * sum over classes of KL(Bernoulli(teacher) || Bernoulli(student))

    `soft_targets` are the teacher's log-odds, at that temperature already. It is the sum of what
    `knowledge_distillation` gives for each class as one of two (the class, or not). A softmax over
    the classes would compare how they share one sample among them, which independent classes do
    not.

    >>> import torch
    >>> student = torch.tensor([[2, -1, 0.5, 0], [0.3, 1.2, -0.7, 2.2], [-1.5, 0, 3, 1]])
    >>> teacher = torch.tensor([[4, -2, 1, 0.5], [1, 0, -1, 5], [0, -0.5, 2, 3]])
    >>> for temperature in (1.0, 2.0, 4.0):
    ...     loss = binary_distillation(student, teacher / temperature, temperature=temperature)
    ...     print(f"{loss.mean():.5f}")
    0.33589
    0.61605
    0.83377

    References:
        Geoffrey Hinton, Oriol Vinyals, Jeff Dean, "Distilling the Knowledge in a Neural Network",
        2015, arXiv 1503.02531, section 2 (the square of the temperature); Penghui Yang et al.,
        "Multi-Label Knowledge Distillation", 2023, arXiv 2308.06453, section 3 (one problem of
        two classes for each class).
    """
    return temperature**2 * bernoulli_divergence(soft_targets, log_odds / temperature)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BinaryKd(SoftLoss):
    """The settings of `binary_distillation`: none. Temperatures are those of the student's row."""

    standardize: Literal[False] = False

    kind = "binary_kd"
    signals = ("binary",)
    learns_from = ("every class", "filled tail")
    takes_label_temperature = True

    def _values(self, logits: Tensor, targets: Any, hard_labels: Tensor, temperature: float, epoch: int) -> Tensor:
        return binary_distillation(logits, targets, temperature=temperature)

    def blend(self, soft_targets: Tensor, temperature: float) -> Blend:
        probs = torch.sigmoid(soft_targets)
        entropies = F.binary_cross_entropy_with_logits(soft_targets, probs, reduction="none").sum(dim=1)
        weights = torch.full_like(probs, temperature**2)
        return Blend({temperature: OfOdds(weights, probs)}, -(temperature**2) * entropies)
