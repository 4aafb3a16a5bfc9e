"""Relational knowledge distillation: distances and angles between the examples of a batch."""

from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from pipeline.core.bounds import Weight
from pipeline.core.config import STRICT
from pipeline.student.feature_losses.base import FeatureLoss
from pipeline.student.feature_losses.rkd_angles import AngleLosses, distances


def distance_loss(features: Float[Tensor, "batch own"], stored: Float[Tensor, "batch stored"]) -> Float[Tensor, ""]:
    """Returns the mean over pairs of examples of huber(a - b), with a and b the pair's distance on
    either side by the mean distance there.

    References:
        Wonpyo Park, Dongju Kim, Yan Lu, Minsu Cho, "Relational Knowledge Distillation", 2019, arXiv
        1904.05068, section 3.2.1.
    """
    count = len(features)
    if count < 2:
        return features.sum() * 0
    pairs = count * (count - 1)  # an example's distance to itself is 0 on both sides
    own, wanted = (_by_mean(distances(side), pairs) for side in (features, stored))
    return F.smooth_l1_loss(own, wanted, reduction="sum") / pairs


def angle_loss(features: Float[Tensor, "batch own"], stored: Float[Tensor, "batch stored"]) -> Float[Tensor, ""]:
    """Returns the mean over ordered triplets of examples of huber(a - b), with a and b the cosine
    of the angle at the second one on either side.

    References:
        As `distance_loss`, section 3.2.2.
    """
    count = len(features)
    if count < 3:
        return features.sum() * 0
    total: Tensor = AngleLosses.apply(features, stored)
    return total / (count * (count - 1) * (count - 2))


def _by_mean(distances: Tensor, pairs: int) -> Tensor:
    return distances / (distances.sum() / pairs).clamp(min=torch.finfo(distances.dtype).tiny)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rkd(FeatureLoss):
    """The settings of relational distillation, a loss of the batch.

    Angles are compared within groups of `angle_group` examples, because their number grows with the
    cube; examples are in a new order in each epoch.
    """

    distance_weight: Weight = 25.0
    angle_weight: Weight = 50.0
    angle_group: Annotated[int, Field(ge=3, le=1024)] = 64

    kind = "rkd"
    compares_examples = True

    def __call__(self, features: Tensor, stored: Tensor) -> Tensor:
        groups = list(zip(features.split(self.angle_group), stored.split(self.angle_group), strict=True))
        shares = [len(one) / len(features) for one, _ in groups]
        angles = sum(share * angle_loss(one, other) for share, (one, other) in zip(shares, groups, strict=True))
        return self.distance_weight * distance_loss(features, stored) + self.angle_weight * angles
