"""The signal of independent classes: a sigmoid of each output, so a sample is of any number."""

import math
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64

from pipeline.data.splits import HardLabels
from pipeline.signals.base import Outputs, Signal
from pipeline.signals.binary_metrics import mean_average_precision, prevalence, set_metrics
from pipeline.signals.pieces import by_pieces


@final
class Binary(Signal):
    """The signal of independent classes, also of one alone: yes or no. Values are log-odds; a hard
    label is a row with an entry for each class, 1 yes, 0 no, -1 unknown.

    Losses are sums over the classes, so that the gradient for an output is a difference of two
    probabilities, as large as that of a softmax.
    """

    kind = "binary"
    outputs = "log-odds"
    answer = "set of classes"
    least_classes = 1
    is_independent = True
    headline, headline_words = "map", "mean average precision"

    def values(self, outputs: Outputs, temperature: float) -> Outputs:
        return outputs / temperature

    def divergence(self, values: Outputs, others: Outputs) -> Float[torch.Tensor, " samples"]:
        return bernoulli_divergence(values, others)

    def same_answer(self, values: Outputs, others: Outputs) -> Bool[torch.Tensor, " samples"]:
        return ((values >= 0) == (others >= 0)).all(dim=1)

    def probs(self, values: Outputs) -> Outputs:
        return torch.sigmoid(values)

    def mean(self, parts: Sequence[Outputs], shares: Sequence[float]) -> Outputs:
        yes, no = (
            torch.stack([math.log(w) + F.logsigmoid(s * part) for part, w in zip(parts, shares, strict=True)])
            for s in (1, -1)
        )
        return yes.logsumexp(dim=0) - no.logsumexp(dim=0)

    def agreement(self, outputs: Outputs, others: Outputs) -> float:
        return ((outputs >= 0) == (others >= 0)).double().mean().item()

    def kl_of_each(self, outputs: Outputs, others: Outputs) -> Float64[torch.Tensor, " samples"]:
        return by_pieces(lambda some, other: bernoulli_divergence(other.double(), some.double()), outputs, others)

    def hard_loss(
        self,
        outputs: Outputs,
        hard_labels: HardLabels,
        label_smoothing: float,
        weights: Float[torch.Tensor, " known_classes"] | None = None,
    ) -> Float[torch.Tensor, " samples"]:
        return binary_cross_entropy(outputs, hard_labels, label_smoothing=label_smoothing, weights=weights)

    def class_counts(self, hard_labels: HardLabels) -> Float[torch.Tensor, " known_classes"]:
        return (hard_labels == 1).sum(dim=0).double()

    def metrics(self, outputs: Outputs, hard_labels: HardLabels) -> dict[str, float]:
        return set_metrics(outputs, hard_labels)

    def score(self, outputs: Outputs, hard_labels: HardLabels) -> float:
        return mean_average_precision(outputs, hard_labels)

    def nll_slope(self, outputs: Outputs, hard_labels: HardLabels, inverse_temperature: float) -> float:
        def excess(some: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            scores = some.double()
            return ((torch.sigmoid(scores * inverse_temperature) - labels) * scores * (labels >= 0)).sum(dim=1)

        return float(by_pieces(excess, outputs, hard_labels).mean())

    def chance(self, outputs: Outputs, hard_labels: HardLabels) -> float:
        return prevalence(hard_labels)

    def guess(self, hard_labels: HardLabels) -> float:
        return prevalence(hard_labels)


def mean_log_odds(
    log_odds: Float[torch.Tensor, "samples classes"], counted: Bool[torch.Tensor, "samples classes"]
) -> Float64[torch.Tensor, " classes"]:
    """Returns the log-odds of each class's mean probability over the samples where it is counted.

    One that never is takes the mean of those that are; where none is, one half.
    """
    probs = torch.sigmoid(log_odds.double())
    counts = counted.sum(dim=0)
    total = (probs * counted).sum(dim=0)
    overall = total.sum() / counts.sum() if counts.any() else probs.new_tensor(0.5)
    return torch.logit(torch.where(counts > 0, total / counts.clamp(min=1), overall), eps=1e-12)


def binary_cross_entropy(
    log_odds: Float[torch.Tensor, "samples classes"],
    hard_labels: HardLabels,
    *,
    label_smoothing: float = 0.0,
    weights: Float[torch.Tensor, " known_classes"] | None = None,
) -> Float[torch.Tensor, " samples"]:
    """Returns the cross-entropy of each sample's known entries, summed over the classes, in nats.

    Entries of -1 are unknown and count 0.

    Args:
        label_smoothing: Takes a 1 to 1 - label_smoothing / 2, and a 0 to label_smoothing / 2.
        weights: Of the entries that are 1.

    References:
        Christopher M. Bishop, "Pattern Recognition and Machine Learning", 2006, section 5.2
        (equation 5.22).
    """
    targets = hard_labels.to(log_odds.dtype)
    smooth = targets * (1 - label_smoothing) + label_smoothing / 2
    losses = F.binary_cross_entropy_with_logits(log_odds, smooth, reduction="none", pos_weight=weights)
    return torch.where(hard_labels >= 0, losses, 0.0).sum(dim=1)


def bernoulli_divergence(
    log_odds: Float[torch.Tensor, "samples classes"], others: Float[torch.Tensor, "samples classes"]
) -> Float[torch.Tensor, " samples"]:
    """Returns the divergence of independent classes, summed over them, in nats.

        sum over c of p_c * (log p_c - log q_c) + (1 - p_c) * (log(1 - p_c) - log(1 - q_c))

    p and q are the sigmoids of `log_odds` and `others`. Both logarithms are log-sigmoids of the
    log-odds themselves, so that nothing cancels where a side is sure.
    """
    yes = F.logsigmoid(log_odds) - F.logsigmoid(others)
    no = F.logsigmoid(-log_odds) - F.logsigmoid(-others)
    return (torch.sigmoid(log_odds) * yes + torch.sigmoid(-log_odds) * no).sum(dim=1)
