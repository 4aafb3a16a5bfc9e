"""Parity: how far the outputs of an exported network are from those of torch."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64

from pipeline.export.libraries import ExportError
from pipeline.signals.metrics import accuracy, agreement, kl_to_teacher


@dataclass(frozen=True)
class Parity:
    """The outputs of an exported network beside those of torch, over a split.

    Attributes:
        accuracy: Of the exported network.
        largest_difference: Between any two logits.
        top1_agreement: Share of samples for which both predict the same class.
        kl_to_torch: Mean KL(torch || exported) in nats.
    """

    accuracy: float
    largest_difference: float
    top1_agreement: float
    kl_to_torch: float

    def require(self, tolerance: float, file: str) -> None:
        """Raises ExportError where a logit differs by more than the tolerance."""
        if not self.largest_difference <= tolerance:
            found = f"a logit differs from torch's by {self.largest_difference:.2g} ({self.top1_agreement:.2%} agree)"
            raise ExportError(file, found, expected=f"at most {tolerance:g} (export.logit_tolerance)")


def compare(
    logits: Float[torch.Tensor, "samples classes"],
    torch_logits: Float[torch.Tensor, "samples classes"],
    hard_labels: Int64[torch.Tensor, " samples"],
) -> Parity:
    """Returns the parity of logits with those of torch."""
    return Parity(
        accuracy=accuracy(logits, hard_labels),
        largest_difference=(logits - torch_logits).abs().max().item(),
        top1_agreement=agreement(logits, torch_logits),
        kl_to_torch=kl_to_teacher(logits, torch_logits),
    )
