"""The objective of a student: the losses of a batch, weighted."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pipeline.data.splits import is_labelled
from pipeline.signals import Signal
from pipeline.signals.categorical import CATEGORICAL
from pipeline.student.batches import LabelledBatch
from pipeline.student.feature_losses import FeatureLoss
from pipeline.student.losses import SoftLoss
from pipeline.training.hard_labels import hard_label_loss


@dataclass(frozen=True)
class FeaturePart:
    """The part of an objective that compares embeddings."""

    weight: float
    loss: FeatureLoss


@dataclass(frozen=True)
class Objective:
    """The weighted sum of the losses of hard labels and of soft targets, means over a batch.

        hard_weight * CE + soft_weight * soft loss + feature_weight * feature loss

    For samples without a hard label (-1), and for mixed views of which one sample has none, the CE
    is 0: the weight of a sample does not depend on how many others have a label.

    Args:
        class_weights: Of the CE, on the device; None: all are 1.

    References:
        Geoffrey Hinton, Oriol Vinyals, Jeff Dean, "Distilling the Knowledge in a Neural Network",
        2015, arXiv 1503.02531, section 2.
    """

    hard_weight: float
    soft_weight: float
    temperature: float
    label_smoothing: float
    loss: SoftLoss
    class_weights: Float[Tensor, " classes"] | None = None
    signal: Signal = CATEGORICAL
    features: FeaturePart | None = None

    def __call__(self, model: nn.Module, batch: LabelledBatch, device: torch.device) -> Float[Tensor, ""]:
        """Returns the batch's mean loss."""
        # 1. The logits. On a CPU, autocast leaves log_softmax in bfloat16, which has 3 digits.
        answers = model(batch.inputs.to(device, non_blocking=True))
        logits, embedding = answers if isinstance(answers, tuple) else (answers, None)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        # Of no class's labels: 0, with a gradient for the head, which several processes exchange.
        loss: Tensor | float = 0.0 if self.hard_weight or self.soft_weight else 0.0 * logits.sum(dim=1)
        # 2. The hard labels.
        if self.hard_weight:
            loss = self.hard_weight * self._hard(logits, batch)
        # 3. The soft targets.
        if self.soft_weight:
            assert batch.soft_targets is not None, "the views were opened with a temperature"
            hard_labels = batch.hard_labels.to(device, non_blocking=True)
            soft = self.loss(logits, batch.soft_targets, hard_labels, temperature=self.temperature, epoch=batch.epoch)
            loss = loss + self.soft_weight * soft
        # 4. The features.
        if self.features is not None:
            assert embedding is not None and batch.features is not None, "student and views were opened with them"  # noqa: PT018
            loss = loss + self.features.weight * self.features.loss(embedding.float(), batch.features)
        assert isinstance(loss, Tensor), "settings are checked: one of the weights is positive"
        return loss.mean()

    def _hard(self, logits: Tensor, batch: LabelledBatch) -> Float[Tensor, " batch"]:
        """Returns the cross-entropy of each view, 0 for those without a hard label."""
        values = hard_label_loss(logits, batch, self.label_smoothing, self.class_weights, self.signal)
        known = _is_labelled(batch)
        return values if known.all() else values * known.to(values.device, values.dtype, non_blocking=True)


def _is_labelled(batch: LabelledBatch) -> Bool[Tensor, " batch"]:
    """Returns whether each view has a hard label, on the CPU.

    Hard labels come from there; to ask a GPU would be to wait for it.
    """
    known = is_labelled(batch.hard_labels)
    return known if batch.partner_labels is None else known & is_labelled(batch.partner_labels)
