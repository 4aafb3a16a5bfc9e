"""The objective of a student: the losses of a batch, weighted."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pipeline.student.batches import LabelledBatch
from pipeline.student.losses import SoftLoss
from pipeline.training.hard_labels import hard_label_loss


@dataclass(frozen=True)
class Objective:
    """hard_weight * CE + soft_weight * soft loss: means over a batch.

    Of an image that is mixed of two, the CE is that of both classes, weighted by the images' shares. For images without a
    hard label (-1; one of both is enough) the CE is 0: the weight of an image does not depend on how many others have one.

    References:
        Geoffrey Hinton, Oriol Vinyals, Jeff Dean, "Distilling the Knowledge in a Neural Network", 2015,
        arXiv 1503.02531, section 2.
        Hongyi Zhang, Moustapha Cisse, Yann N. Dauphin, David Lopez-Paz, "mixup: Beyond Empirical Risk Minimization",
        2017, arXiv 1710.09412, section 2.
    """

    hard_weight: float
    soft_weight: float
    temperature: float
    label_smoothing: float
    loss: SoftLoss

    def __call__(self, model: nn.Module, batch: LabelledBatch, device: torch.device) -> Float[Tensor, ""]:
        """The batch's mean loss."""
        logits = model(batch.inputs.to(device, non_blocking=True))
        # On a CPU, autocast leaves log_softmax in bfloat16, which has 3 digits.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss: Tensor | float = 0.0
        if self.hard_weight:
            loss = self.hard_weight * self._hard(logits, batch)
        if self.soft_weight:
            assert batch.soft_targets is not None, "the views were opened with a temperature"
            hard_labels = batch.hard_labels
            if self.loss.needs_hard_label:  # else the copy to the device is saved
                hard_labels = hard_labels.to(device, non_blocking=True)
            soft = self.loss(logits, batch.soft_targets, hard_labels, temperature=self.temperature, epoch=batch.epoch)
            loss = loss + self.soft_weight * soft
        assert isinstance(loss, Tensor), "settings are checked: one of the weights is positive"
        return loss.mean()

    def _hard(self, logits: Tensor, batch: LabelledBatch) -> Float[Tensor, " batch"]:
        values = hard_label_loss(logits, batch, self.label_smoothing)
        known = _is_labelled(batch)
        return values if known.all() else values * known.to(values.device, values.dtype, non_blocking=True)


def _is_labelled(batch: LabelledBatch) -> Bool[Tensor, " batch"]:
    """Which views have a hard label, on the CPU, where these come from: asking a device would be to wait for it."""
    known = batch.hard_labels >= 0
    return known if batch.partner_labels is None else known & (batch.partner_labels >= 0)
