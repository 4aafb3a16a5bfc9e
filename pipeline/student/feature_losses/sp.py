"""Similarity-preserving distillation: which examples of a batch are alike."""

import torch.nn.functional as F
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor

from pipeline.core.config import STRICT
from pipeline.student.feature_losses.base import FeatureLoss


def similarity_loss(features: Float[Tensor, "batch own"], stored: Float[Tensor, "batch stored"]) -> Float[Tensor, ""]:
    """Returns |G - H|^2 / batch^2, with G and H the products of all pairs of examples on either
    side, each row divided by its length.

    The paper weights it by 3000.

    References:
        Frederick Tung, Greg Mori, "Similarity-Preserving Knowledge Distillation", 2019, arXiv
        1907.09682, section 3.1, equations 1 to 4.
    """
    own, wanted = (F.normalize(side @ side.T, dim=1) for side in (features, stored))
    return (own - wanted).square().mean()


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Sp(FeatureLoss):
    """The settings of `similarity_loss`, a loss of the batch: none."""

    kind = "sp"
    compares_examples = True

    def __call__(self, features: Tensor, stored: Tensor) -> Tensor:
        return similarity_loss(features, stored)
