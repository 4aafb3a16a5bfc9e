"""The signal of one class of several at each position of a grid, as in semantic segmentation."""

import math
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Integer

from pipeline.data.splits import HardLabels
from pipeline.signals.base import Outputs, Signal
from pipeline.signals.grid_metrics import chance_iou, confusion_of, grid_metrics, guessed_iou, mean_iou
from pipeline.signals.losses import log_normalise
from pipeline.signals.pieces import by_pieces

_AT_ONCE = 256  # maps, which may be on disk
_SAME = 0.99  # the share of positions


@final
class Grid(Signal):
    """The signal of a class at each position. Outputs are [samples, classes, height, width], or
    [samples, classes, positions] of some positions; values are log-probabilities, normalised over
    the classes of a position. A hard label is a map of classes, [height, width], -1 where nothing
    is known.

    Figures of a sample are means over its positions.
    """

    kind = "grid"
    outputs = "logits at positions"
    answer = "class at 99% of the positions"
    least_classes = 2
    headline, headline_words = "miou", "mean IoU"

    def values(self, outputs: Outputs, temperature: float) -> Outputs:
        return torch.log_softmax(outputs / temperature, dim=1)

    def divergence(self, values: Outputs, others: Outputs) -> Float[torch.Tensor, " samples"]:
        return _mean((values.exp() * (values - log_normalise(others))).sum(dim=1))

    def same_answer(self, values: Outputs, others: Outputs) -> Bool[torch.Tensor, " samples"]:
        return _mean((values.argmax(dim=1) == others.argmax(dim=1)).double()) >= _SAME

    def probs(self, values: Outputs) -> Outputs:
        return values.exp()

    def mean(self, parts: Sequence[Outputs], shares: Sequence[float]) -> Outputs:
        weighted = [math.log(share) + part for part, share in zip(parts, shares, strict=True)]
        return torch.logsumexp(torch.stack(weighted), dim=0)

    def agreement(self, outputs: Outputs, others: Outputs) -> float:
        def same(some: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            return _mean((some.argmax(dim=1) == other.argmax(dim=1)).double())

        return by_pieces(same, outputs, others).mean().item()

    def kl_of_each(self, outputs: Outputs, others: Outputs) -> Float64[torch.Tensor, " samples"]:
        def divergence(some: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            return self.divergence(torch.log_softmax(other.double(), dim=1), some.double())

        return by_pieces(divergence, outputs, others)

    def hard_loss(
        self,
        outputs: Outputs,
        hard_labels: HardLabels,
        label_smoothing: float,
        weights: Float[torch.Tensor, " known_classes"] | None = None,
    ) -> Float[torch.Tensor, " samples"]:
        losses = position_cross_entropy(outputs, hard_labels, label_smoothing=label_smoothing)
        if weights is not None:
            losses = losses * weights[hard_labels.long()]  # 0 where nothing is known (-1)
        known = (hard_labels >= 0).flatten(1).sum(dim=1).clamp(min=1)
        return losses.flatten(1).sum(dim=1) / known

    def class_counts(self, hard_labels: HardLabels) -> Float[torch.Tensor, " known_classes"]:
        pieces = [torch.bincount(some[some >= 0].long()) for some in hard_labels.split(_AT_ONCE)]
        counts = torch.zeros(max(len(piece) for piece in pieces), dtype=torch.float64, device=hard_labels.device)
        for piece in pieces:
            counts[: len(piece)] += piece
        return counts

    def metrics(self, outputs: Outputs, hard_labels: HardLabels) -> dict[str, float]:
        return grid_metrics(outputs, hard_labels)

    def score(self, outputs: Outputs, hard_labels: HardLabels) -> float:
        return mean_iou(confusion_of(outputs, hard_labels))

    def nll_slope(self, outputs: Outputs, hard_labels: HardLabels, inverse_temperature: float) -> float:
        def excess(some: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            scores, known = some.double(), labels >= 0
            expected = (torch.softmax(scores * inverse_temperature, dim=1) * scores).sum(dim=1)
            at_label = scores.gather(1, labels.long().clamp(min=0)[:, None])[:, 0]
            return ((expected - at_label) * known).flatten(1).sum(dim=1)

        return float(by_pieces(excess, outputs, hard_labels).sum() / (hard_labels >= 0).sum().clamp(min=1))

    def chance(self, outputs: Outputs, hard_labels: HardLabels) -> float:
        return chance_iou(confusion_of(outputs, hard_labels))

    def guess(self, hard_labels: HardLabels) -> float:
        return guessed_iou(self.class_counts(hard_labels))


def position_cross_entropy(
    outputs: Float[torch.Tensor, "samples classes *grid"],
    hard_labels: Integer[torch.Tensor, "samples ..."],
    *,
    label_smoothing: float = 0.0,
) -> Float[torch.Tensor, "samples ..."]:
    """Returns -log p(hard label) at each position, in nats; 0 where nothing is known (-1)."""
    labels = hard_labels.long()
    return F.cross_entropy(outputs, labels, reduction="none", label_smoothing=label_smoothing, ignore_index=-1)


def _mean(values: Float[torch.Tensor, "samples ..."]) -> Float[torch.Tensor, " samples"]:
    return values.flatten(1).mean(dim=1)
