"""The figures of a classifier: from its logits and hard labels, or from two classifiers' logits."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64

from pipeline.signals.losses import cross_entropy, kl_divergence_with_log_targets
from pipeline.signals.pieces import by_pieces

NUM_BINS = 15


def accuracy(logits: Float[torch.Tensor, "samples classes"], hard_labels: Int64[torch.Tensor, " samples"]) -> float:
    """Returns the share of samples whose largest logit is at the hard label, 0 to 1."""
    return (logits.argmax(dim=1) == hard_labels).double().mean().item()


def nll(logits: Float[torch.Tensor, "samples classes"], hard_labels: Int64[torch.Tensor, " samples"]) -> float:
    """Returns the mean negative log-likelihood of the hard labels, in nats."""
    return by_pieces(lambda some, labels: cross_entropy(some.double(), labels), logits, hard_labels).mean().item()


def brier(logits: Float[torch.Tensor, "samples classes"], hard_labels: Int64[torch.Tensor, " samples"]) -> float:
    """Returns the mean squared distance of probabilities from one-hot hard labels, 0 to 2.

    References:
        Glenn W. Brier, "Verification of forecasts expressed in terms of probability", 1950,
        equation 2.
    """

    def squared_distance(some: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        one_hot = F.one_hot(labels, some.shape[1])
        return ((F.softmax(some.double(), dim=1) - one_hot) ** 2).sum(dim=1)

    return by_pieces(squared_distance, logits, hard_labels).mean().item()


def likeliest(
    logits: Float[torch.Tensor, "samples classes"],
) -> tuple[Float[torch.Tensor, " samples"], Int64[torch.Tensor, " samples"]]:
    """Returns the largest probability of each sample, and its class."""

    def largest(some: torch.Tensor) -> torch.Tensor:
        confidence, predicted = F.softmax(some.double(), dim=1).max(dim=1)
        return torch.stack([confidence, predicted.double()], dim=1)

    confidence, predicted = by_pieces(largest, logits).unbind(dim=1)
    return confidence, predicted.long()


@dataclass(frozen=True)
class ReliabilityBin:
    """A bin of samples whose confidence (largest probability) lies in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(
    logits: Float[torch.Tensor, "samples classes"], hard_labels: Int64[torch.Tensor, " samples"]
) -> list[ReliabilityBin]:
    """Returns mean confidence and accuracy in 15 bins of equal width; empty bins are left out."""
    confidence, predicted = likeliest(logits)
    correct = (predicted == hard_labels).double()
    index = (confidence * NUM_BINS).ceil().long().clamp(1, NUM_BINS) - 1
    bins = []
    for number in index.unique().tolist():
        inside = index == number
        mean_confidence, mean_accuracy = confidence[inside].mean().item(), correct[inside].mean().item()
        low, high = number / NUM_BINS, (number + 1) / NUM_BINS
        bins.append(ReliabilityBin(low, high, int(inside.sum()), mean_confidence, mean_accuracy))
    return bins


def ece(logits: Float[torch.Tensor, "samples classes"], hard_labels: Int64[torch.Tensor, " samples"]) -> float:
    """Returns the expected calibration error.

    It is the mean gap between confidence and accuracy over 15 bins, weighted by their counts.

    References:
        Chuan Guo, Geoff Pleiss, Yu Sun, Kilian Q. Weinberger, "On Calibration of Modern Neural
        Networks", 2017, arXiv 1706.04599, section 2, equation 3.
    """
    return sum(b.count * abs(b.confidence - b.accuracy) for b in reliability(logits, hard_labels)) / len(logits)


def classification_metrics(
    logits: Float[torch.Tensor, "samples classes"], hard_labels: Int64[torch.Tensor, " samples"]
) -> dict[str, float]:
    """Returns accuracy, NLL, ECE and Brier score."""
    return {
        "accuracy": accuracy(logits, hard_labels),
        "nll": nll(logits, hard_labels),
        "ece": ece(logits, hard_labels),
        "brier": brier(logits, hard_labels),
    }


def mean_by_chance(
    logits: Float[torch.Tensor, "samples classes"], hard_labels: Int64[torch.Tensor, " samples"]
) -> float:
    """Returns the accuracy that chance comes to on average, each side with its own frequencies."""
    count, classes = logits.shape
    predicted = torch.bincount(logits.argmax(dim=1), minlength=classes).double() / count
    labelled = torch.bincount(hard_labels, minlength=classes).double() / count
    return (predicted * labelled).sum().item()


def agreement(
    logits: Float[torch.Tensor, "samples classes"], teacher_logits: Float[torch.Tensor, "samples classes"]
) -> float:
    """Returns the share of samples on which both predict the same class, 0 to 1."""
    return (logits.argmax(dim=1) == teacher_logits.argmax(dim=1)).double().mean().item()


def kl_to_teacher(
    logits: Float[torch.Tensor, "samples classes"], teacher_logits: Float[torch.Tensor, "samples classes"]
) -> float:
    """Returns the mean KL(teacher || student) at temperature 1, in nats."""
    return kl_to_teacher_of_each(logits, teacher_logits).mean().item()


def kl_to_teacher_of_each(
    logits: Float[torch.Tensor, "samples classes"], teacher_logits: Float[torch.Tensor, "samples classes"]
) -> Float[torch.Tensor, " samples"]:
    """Returns KL(teacher || student) of each sample at temperature 1, in nats."""

    def divergence(some: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return kl_divergence_with_log_targets(F.log_softmax(teacher.double(), dim=1), some.double())

    return by_pieces(divergence, logits, teacher_logits)
