"""Mean squared error of centred logits."""

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.student.losses.base import SoftLoss


def centred_mse(
    logits: Float[torch.Tensor, "batch classes"],
    soft_targets: Float[torch.Tensor, "batch classes"],
    *,
    temperature: float,
) -> Float[torch.Tensor, " batch"]:
    """Returns the mean squared difference of both sides' scores, each less its mean.

        temperature^2 * mean over classes of (d - mean(d))^2

    d is logits / temperature - soft_targets. `soft_targets` are the teacher's log-probabilities at
    `temperature`. Centring makes a shift of the logits cost nothing, as it changes no prediction.
    The temperature cancels: the loss is the distance of the centred logits, half of which KD tends
    to as its temperature grows.

    >>> student = torch.tensor([[2, -1, 0.5, 0], [0.3, 1.2, -0.7, 2.2], [-1.5, 0, 3, 1]])
    >>> teacher = torch.tensor([[4, -2, 1, 0.5], [1, 0, -1, 5], [0, -0.5, 2, 3]])
    >>> for temperature in (1.0, 4.0):
    ...     soft_targets = torch.log_softmax(teacher / temperature, dim=1)
    ...     print(f"{centred_mse(student, soft_targets, temperature=temperature).mean():.5f}")
    1.65500
    1.65500

    References:
        Taehyeon Kim, Jaehoon Oh, NakYil Kim, Sangwook Cho, Se-Young Yun, "Comparing
        Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge Distillation", 2021,
        arXiv 2105.08919, section 3.
    """
    difference = logits / temperature - soft_targets
    return temperature**2 * (difference - difference.mean(dim=1, keepdim=True)).square().mean(dim=1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mse(SoftLoss):
    """The settings of `centred_mse`: none, the temperature is the student's."""

    kind = "mse"
    learns_from = ("every class",)

    def _values(
        self, logits: torch.Tensor, targets: torch.Tensor, hard_labels: torch.Tensor, temperature: float, epoch: int
    ) -> torch.Tensor:
        return centred_mse(logits, targets, temperature=temperature)
