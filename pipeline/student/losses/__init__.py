"""Losses that learn from soft targets, one file each: the function, its settings, its `kind`.

A student's row `loss:` in `params.yaml` is `{kind: dist, standardize: false,
<settings>}`. A new loss is a new file beside these, and its class is added to `LOSSES`.

base.py           the abstract loss: which labels, views and data it can learn from
standardise.py    logit standardisation, which any loss can have applied first
other_classes.py  the classes besides the hard label, for dkd and nkd
kd.py             knowledge distillation: KL divergence, of all classes or of a few and the rest
dkd.py            decoupled: the hard label's part and the other classes' part, weighted apart
dist.py           DIST: correlations over classes and over the examples of a batch
nkd.py            normalised: cross-entropies with the teacher's probabilities as weights
mse.py            mean squared error of centred logits
binary_kd.py      the divergence of independent classes, each one of two outcomes
channelwise.py    where in an image each class is: of grids alone
"""

from pipeline.core.config import validate_kind
from pipeline.student.losses.base import SoftLoss
from pipeline.student.losses.binary_kd import BinaryKd
from pipeline.student.losses.channelwise import Channelwise
from pipeline.student.losses.dist import Dist
from pipeline.student.losses.dkd import Dkd
from pipeline.student.losses.kd import Kd
from pipeline.student.losses.mse import Mse
from pipeline.student.losses.nkd import Nkd

LOSSES: dict[str, type[SoftLoss]] = {cls.kind: cls for cls in (Kd, Dkd, Dist, Nkd, Mse, BinaryKd, Channelwise)}

__all__ = ["LOSSES", "SoftLoss", "build_loss"]


def build_loss(row: object, where: str) -> SoftLoss:
    """Returns the loss that a row names; raises ConfigError where kind or settings are wrong."""
    loss: SoftLoss = validate_kind(LOSSES, row, where)
    return loss
