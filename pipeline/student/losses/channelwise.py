"""Channel-wise distillation: where in an image each class is, compared class by class."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor

from pipeline.core.config import STRICT
from pipeline.labels.position_targets import PositionTargets
from pipeline.student.losses.base import SoftLoss
from pipeline.student.position_blends import PositionBlend


def channelwise_distillation(
    logits: Float[Tensor, "batch classes positions"],
    soft_targets: Float[Tensor, "batch classes positions"],
    *,
    temperature: float,
) -> Float[Tensor, " batch"]:
    """Returns the divergence of the student's maps from the teacher's, in nats.

        temperature^2 / classes * sum over classes of KL(teacher's map || student's map)

    The map of a class is a distribution over the positions: a softmax over them of log p / T, so
    each position has its share of all the probability that the class has in the image. Where a
    class is counts, and not how much of it there is.

    `soft_targets` are the teacher's log-probabilities at `temperature`. The paper takes a softmax
    of the logits. Stored labels are normalised over the classes, which a softmax over the
    positions does not forget, so the student is normalised over the classes first, too.

    >>> import torch
    >>> student = torch.tensor([[[2, -1, 0.5], [0.3, 1.2, -0.7]]])
    >>> teacher = torch.tensor([[[4, -2, 1], [1, 0, -1.0]]])
    >>> for temperature in (1.0, 4.0):
    ...     soft_targets = torch.log_softmax(teacher / temperature, dim=1)
    ...     loss = channelwise_distillation(student, soft_targets, temperature=temperature)
    ...     print(f"{loss.mean():.5f}")
    0.02905
    0.02871

    References:
        Changyong Shu, Yifan Liu, Jianfei Gao, Zheng Yan, Chunhua Shen, "Channel-wise Knowledge
        Distillation for Dense Prediction", 2020, arXiv 2011.13256, section 3 (equation 4).
    """
    student = F.log_softmax(F.log_softmax(logits / temperature, dim=1), dim=2)
    teacher = F.log_softmax(soft_targets, dim=2)
    of_each = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=2)
    return temperature**2 * of_each.mean(dim=1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Channelwise(SoftLoss):
    """The settings of `channelwise_distillation`: none. Temperatures are the student's row's."""

    standardize: Literal[False] = False

    kind = "channelwise"
    signals = ("grid",)
    learns_from = ("every class", "filled tail")
    takes_label_temperature = True
    compares_positions = True

    def _at_positions(
        self, logits: Tensor, targets: PositionTargets, maps: Tensor, temperature: float, epoch: int
    ) -> Tensor:
        return channelwise_distillation(targets.maps_of(logits), _stored_maps(targets), temperature=temperature)

    def blend_positions(self, targets: PositionTargets, temperature: float) -> PositionBlend:
        teacher = torch.log_softmax(_stored_maps(targets), dim=2)
        weights = temperature**2 / teacher.shape[1] * teacher.exp()
        constants = (weights * teacher).sum(dim=(1, 2))
        return PositionBlend(-weights, constants, temperature, targets.stride, targets.index, by_class=True)

    def _values(self, logits: Tensor, targets: Any, hard_labels: Tensor, temperature: float, epoch: int) -> Tensor:
        raise NotImplementedError("signals are checked: targets are at positions")


def _stored_maps(targets: PositionTargets) -> Float[Tensor, "batch classes positions"]:
    assert isinstance(targets.rows, Tensor), "labels are checked"
    return targets.rows.reshape(-1, targets.num_positions, targets.rows.shape[1]).movedim(1, 2)
