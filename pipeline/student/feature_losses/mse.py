"""The mean squared error of embeddings."""

import torch.nn.functional as F
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor

from pipeline.core.config import STRICT
from pipeline.student.feature_losses.base import FeatureLoss


def feature_mse(features: Float[Tensor, "batch stored"], stored: Float[Tensor, "batch stored"]) -> Float[Tensor, ""]:
    """Returns the mean squared difference, over dimensions and examples.

    References:
        Adriana Romero et al., "FitNets: Hints for Thin Deep Nets", 2014, arXiv 1412.6550, section
        2.2.
    """
    return F.mse_loss(features, stored)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FeatureMse(FeatureLoss):
    """The settings of `feature_mse`: none."""

    kind = "mse"
    projects = True

    def __call__(self, features: Tensor, stored: Tensor) -> Tensor:
        return feature_mse(features, stored)
