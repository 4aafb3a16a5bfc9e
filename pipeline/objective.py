"""What a student learns: the losses of a batch, weighted."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn

from pipeline.batches import LabelledBatch
from pipeline.losses import cross_entropy, knowledge_distillation


@dataclass(frozen=True)
class Objective:
    """hard_weight * CE + soft_weight * temperature^2 * KL(teacher || student), per example.

    References:
        Geoffrey Hinton, Oriol Vinyals, Jeff Dean, "Distilling the Knowledge in a Neural Network", 2015,
        arXiv 1503.02531, section 2.
    """

    hard_weight: float
    soft_weight: float
    temperature: float
    label_smoothing: float

    def __call__(self, model: nn.Module, batch: LabelledBatch, device: torch.device) -> Float[torch.Tensor, ""]:
        """The batch's mean loss."""
        logits = model(batch.images.to(device, non_blocking=True))
        loss: torch.Tensor | float = 0.0
        if self.hard_weight:
            hard_labels = batch.hard_labels.to(device, non_blocking=True)
            loss = self.hard_weight * cross_entropy(logits, hard_labels, label_smoothing=self.label_smoothing)
        if self.soft_weight:
            assert batch.soft_targets is not None, "the views were opened with a temperature"
            soft = knowledge_distillation(logits, batch.soft_targets, temperature=self.temperature)
            loss = loss + self.soft_weight * soft
        assert isinstance(loss, torch.Tensor), "settings are checked: one of the weights is positive"
        return loss.mean()
