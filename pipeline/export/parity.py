"""Parity: how far the outputs of an exported network are from those of torch."""

from dataclasses import dataclass

import torch
from jaxtyping import Float

from pipeline.export.libraries import ExportError
from pipeline.signals import HardLabels, Signal
from pipeline.signals.categorical import CATEGORICAL
from pipeline.signals.pieces import by_pieces


@dataclass(frozen=True)
class Parity:
    """The outputs of an exported network beside those of torch, over a split.

    Attributes:
        accuracy: Of the exported network.
        headline: The figure of its signal by which networks are compared; None: it is accuracy.
        largest_difference: Between any two logits.
        relative_difference: The largest difference as a share of the logits' spread.
        top1_agreement: Share of samples, or pixels, for which both predict the same class; of
            independent classes, share of entries that both put on the same side of one half.
        kl_to_torch: Mean KL(torch || exported) in nats.
    """

    accuracy: float
    largest_difference: float
    relative_difference: float
    top1_agreement: float
    kl_to_torch: float
    headline: float | None = None

    def require(self, tolerance: float, file: str) -> None:
        """Raises ExportError where a logit differs by more than the tolerance allows."""
        if not self.relative_difference <= tolerance:
            share = f"{self.relative_difference:.2g} of the logits' spread"
            found = f"a logit differs from torch's by {self.largest_difference:.2g}, {share}"
            agree = f"{self.top1_agreement:.2%} of the classes agree"
            raise ExportError(file, f"{found} ({agree})", expected=f"at most {tolerance:g} (export.logit_tolerance)")


def compare(
    logits: Float[torch.Tensor, "samples classes *grid"],
    torch_logits: Float[torch.Tensor, "samples classes *grid"],
    hard_labels: HardLabels,
    signal: Signal = CATEGORICAL,
) -> Parity:
    """Returns the parity of logits with those of torch."""
    figures = signal.metrics(logits, hard_labels)
    largest, relative = by_pieces(_differences, logits, torch_logits).amax(dim=0).tolist()
    return Parity(
        accuracy=figures["accuracy"],
        largest_difference=largest,
        relative_difference=relative,
        top1_agreement=signal.agreement(logits, torch_logits),
        kl_to_torch=signal.kl_of_each(logits, torch_logits).mean().item(),
        headline=None if signal.headline == "accuracy" else figures[signal.headline],
    )


def _differences(
    logits: Float[torch.Tensor, "samples classes *grid"], torch_logits: Float[torch.Tensor, "samples classes *grid"]
) -> Float[torch.Tensor, "samples 2"]:
    """Returns the largest difference between two logits of each sample, and as a share."""
    differences = torch.where(logits == torch_logits, 0.0, (logits - torch_logits).abs())  # inf - inf is no number
    shares = differences / _scale(torch_logits)
    return torch.stack([each.flatten(1).amax(dim=1) for each in (differences, shares)], dim=1)


def _scale(logits: Float[torch.Tensor, "samples classes *grid"]) -> Float[torch.Tensor, "samples classes *grid"]:
    """Returns what a difference in each logit is measured by: the spread of the logits of its image
    or pixel, or the logit itself where that is larger, and at least 1.

    Rounding grows with the numbers that are added up. A difference well below 1 never matters,
    because a softmax turns it into so small a share. The spread is the median distance from the
    median: one class that is switched off by a logit of -1e9 does not count.
    """
    distances = (logits - logits.median(dim=1, keepdim=True).values).abs()
    spread = distances.median(dim=1, keepdim=True).values
    return torch.maximum(spread, logits.abs()).nan_to_num(1.0, 1.0).clamp(min=1.0)
