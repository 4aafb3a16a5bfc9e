"""The objective of a student: the losses of a batch, weighted."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.data.hard_labels import is_labelled
from pipeline.labels.position_targets import PositionTargets
from pipeline.signals import HardLabels, Signal
from pipeline.signals.categorical import CATEGORICAL
from pipeline.student.batches import LabelledBatch, Targets
from pipeline.student.blends import Blend, HardTerms
from pipeline.student.feature_losses import FeatureLoss
from pipeline.student.losses import SoftLoss
from pipeline.student.position_blends import PositionBlend
from pipeline.training.hard_labels import Partners, hard_label_loss


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
        # 2. Hard labels and soft targets.
        if isinstance(batch.soft_targets, Blend):
            loss = batch.soft_targets.mean_loss(logits)
        elif isinstance(batch.soft_targets, PositionBlend):
            strips = batch.soft_targets.strips(logits)
            loss = batch.soft_targets.mean_loss(strips)
            if self.hard_weight:
                loss = loss + self.hard_weight * self._hard(strips.flatten(2, 3), batch).mean()
        elif self.hard_weight or self.soft_weight:
            loss = self._of_each(logits, batch).mean()
        else:  # 0, with a gradient for the head, which several processes exchange
            loss = 0.0 * logits.sum()
        # 3. The features.
        if self.features is not None:
            assert embedding is not None and batch.features is not None, "student and views were opened with them"  # noqa: PT018
            loss = loss + self.features.weight * self.features.loss(embedding.float(), batch.features)
        return loss

    def blend(self, targets: Targets, hard_labels: HardLabels, partners: Partners | None) -> Targets:
        """Returns soft targets blended with the hard labels of the same views, as `__call__` takes
        them quickest; the targets alone where the loss is no sum of cross-entropies. Of positions
        soft targets alone are worked out: hard labels are of all of them.
        """
        if isinstance(targets, PositionTargets):
            maps = self.loss.blend_positions(targets, self.temperature) if self.soft_weight else None
            return targets if maps is None else maps.times(self.soft_weight)
        soft = self.loss.blend(targets, self.temperature) if self.soft_weight else None
        if soft is None or not isinstance(targets, Tensor):
            return targets
        soft = soft.times(self.soft_weight)
        if not self.hard_weight:
            return soft
        of = HardTerms(self.signal.kind, targets.shape[1], targets.device, self.label_smoothing, self.class_weights)
        return soft.plus(1.0, of.term(hard_labels, partners).times(self.hard_weight))

    def _of_each(self, logits: Tensor, batch: LabelledBatch) -> Float[Tensor, " batch"]:
        """Returns the loss of each view against its hard label and its soft targets."""
        loss: Tensor | None = None
        if self.hard_weight:
            loss = _times(self.hard_weight, self._hard(logits, batch))
        if self.soft_weight:
            targets, temperature = batch.soft_targets, self.temperature
            assert targets is not None and not isinstance(targets, (Blend, PositionBlend)), "views have a temperature"  # noqa: PT018
            labels = batch.hard_labels.to(logits.device, non_blocking=True)
            soft = _times(
                self.soft_weight, self.loss(logits, targets, labels, temperature=temperature, epoch=batch.epoch)
            )
            loss = soft if loss is None else loss + soft
        assert loss is not None, "one of the weights is positive"
        return loss

    def _hard(self, logits: Tensor, batch: LabelledBatch) -> Float[Tensor, " batch"]:
        """Returns the cross-entropy of each view, 0 for those without a hard label."""
        values = hard_label_loss(logits, batch, self.label_smoothing, self.class_weights, self.signal)
        if batch.partner_labels is None:
            return values
        known = is_labelled(batch.hard_labels) & is_labelled(batch.partner_labels)
        return values * known.to(values.device, values.dtype, non_blocking=True)


def _times(weight: float, values: Tensor) -> Tensor:
    """Returns their product; most weights are 1, and each operation of a small step counts."""
    return values if weight == 1 else weight * values
