"""Losses that learn from stored embeddings, one file each: the function, its settings, its `kind`.

A student's row `feature_loss:` in `params.yaml` is `{kind: rkd, <settings>}`. A new loss is a new
file beside these, and its class is added to `FEATURE_LOSSES`.

base.py        the abstract loss of features
cosine.py      the cosine distance, through a learned projection
mse.py         the mean squared error, through a learned projection
rkd.py         relations: distances and angles between the examples of a batch
rkd_angles.py  the angles of rkd, with their gradient
sp.py          similarities between the examples of a batch
"""

from pipeline.core.config import validate_kind
from pipeline.student.feature_losses.base import FeatureLoss
from pipeline.student.feature_losses.cosine import Cosine
from pipeline.student.feature_losses.mse import FeatureMse
from pipeline.student.feature_losses.rkd import Rkd
from pipeline.student.feature_losses.sp import Sp

FEATURE_LOSSES: dict[str, type[FeatureLoss]] = {cls.kind: cls for cls in (Cosine, FeatureMse, Rkd, Sp)}

__all__ = ["FEATURE_LOSSES", "FeatureLoss", "build_feature_loss"]


def build_feature_loss(row: object, where: str) -> FeatureLoss:
    """Returns the loss that a row names; raises ConfigError where kind or settings are wrong."""
    loss: FeatureLoss = validate_kind(FEATURE_LOSSES, row, where)
    return loss
