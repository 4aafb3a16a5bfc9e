"""Losses over student logits, soft targets and hard labels: functions of single examples, and
modules that return the mean of a batch.

Soft targets are the teacher's log-probabilities at the loss's temperature (of independent classes,
log-odds), as `Labels.targets` and the items of a `DistillationDataset` have them.
"""

from pipeline.library.losses import (
    DIST,
    DKD,
    KD,
    NKD,
    BinaryKD,
    CentredMSE,
    Distillation,
    HardLabelLoss,
    Loss,
    SoftTargetLoss,
)
from pipeline.signals.binary import binary_cross_entropy
from pipeline.signals.losses import cross_entropy
from pipeline.student.losses.binary_kd import binary_distillation
from pipeline.student.losses.dist import dist
from pipeline.student.losses.dkd import decoupled_knowledge_distillation
from pipeline.student.losses.kd import knowledge_distillation
from pipeline.student.losses.mse import centred_mse
from pipeline.student.losses.nkd import normalised_knowledge_distillation
from pipeline.student.losses.standardise import standardise

__all__ = [
    "DIST",
    "DKD",
    "KD",
    "NKD",
    "BinaryKD",
    "CentredMSE",
    "Distillation",
    "HardLabelLoss",
    "Loss",
    "SoftTargetLoss",
    "binary_cross_entropy",
    "binary_distillation",
    "centred_mse",
    "cross_entropy",
    "decoupled_knowledge_distillation",
    "dist",
    "knowledge_distillation",
    "normalised_knowledge_distillation",
    "standardise",
]
