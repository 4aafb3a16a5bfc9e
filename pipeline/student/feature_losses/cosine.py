"""The cosine distance of embeddings."""

import torch.nn.functional as F
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor

from pipeline.core.config import STRICT
from pipeline.student.feature_losses.base import FeatureLoss


def cosine_loss(features: Float[Tensor, "batch stored"], stored: Float[Tensor, "batch stored"]) -> Float[Tensor, ""]:
    """Returns the mean of 1 - cosine: 0 where directions are the same, whatever the lengths."""
    return (1 - F.cosine_similarity(features, stored, dim=1)).mean()


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Cosine(FeatureLoss):
    """The settings of `cosine_loss`: none."""

    kind = "cosine"
    projects = True

    def __call__(self, features: Tensor, stored: Tensor) -> Tensor:
        return cosine_loss(features, stored)
