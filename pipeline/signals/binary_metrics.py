"""The figures of independent classes, from log-odds and the entries that are known."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64, Integer

from pipeline.signals.metrics import NUM_BINS, ReliabilityBin

HALF = 0.5  # the threshold where none was chosen

LogOdds = Float[torch.Tensor, "samples classes"]
Entries = Integer[torch.Tensor, "samples classes"]


def set_metrics(log_odds: LogOdds, entries: Entries) -> dict[str, float]:
    """Returns mean average precision (`map`), the mean area under the ROC curve (`auc`), accuracy,
    NLL (the log loss of an entry), ECE and F1 at one half.

    Accuracy is the share of known entries on the right side of one half.
    """
    known = entries >= 0
    right = ((log_odds >= 0) == (entries == 1))[known].double().mean().item()
    return {
        "map": mean_average_precision(log_odds, entries),
        "auc": mean_area_under_roc(log_odds, entries),
        "accuracy": right,
        "nll": binary_nll(log_odds, entries),
        "ece": binary_ece(log_odds, entries),
        "f1_micro": f1(log_odds, entries)[0],
        "f1_macro": f1(log_odds, entries)[1],
    }


def average_precisions(log_odds: LogOdds, entries: Entries) -> list[float | None]:
    """Returns the average precision of each class over its known entries, 0 to 1; None for a class
    that no sample is of.

        sum over the ranks of (recall_n - recall_n-1) * precision_n

    Samples of equal log-odds share a rank, so their order does not matter.

    References:
        Christopher D. Manning, Prabhakar Raghavan, Hinrich Schuetze, "Introduction to Information
        Retrieval", 2008, section 8.4.
    """
    return [_average_precision(odds, of) for odds, of in zip(log_odds.T, entries.T, strict=True)]


def mean_average_precision(log_odds: LogOdds, entries: Entries) -> float:
    """Returns the mean of `average_precisions` over the classes that have one; 0 where none has."""
    found = [value for value in average_precisions(log_odds, entries) if value is not None]
    return sum(found) / len(found) if found else 0.0


def _average_precision(log_odds: torch.Tensor, entries: torch.Tensor) -> float | None:
    odds, positive = log_odds[entries >= 0], entries[entries >= 0] == 1
    if not positive.any():
        return None
    odds, order = odds.sort(descending=True, stable=True)
    hits = positive[order].cumsum(0).double()
    ends = torch.cat([odds[1:] != odds[:-1], torch.ones(1, dtype=torch.bool)])  # the last of each rank
    hits, seen = hits[ends], (torch.nonzero(ends)[:, 0] + 1).double()
    gained = torch.diff(hits, prepend=hits.new_zeros(1))
    return float((gained * hits / seen).sum() / hits[-1])


def areas_under_roc(log_odds: LogOdds, entries: Entries) -> list[float | None]:
    """Returns the area under each class's ROC curve over its known entries, 0 to 1: how often a
    sample of the class has the larger log-odds of a pair; of equal ones half counts. None for a
    class of which no pair is known.

    References:
        James A. Hanley, Barbara J. McNeil, "The meaning and use of the area under a receiver
        operating characteristic (ROC) curve", 1982, section II (the Wilcoxon statistic).
    """
    return [_area_under_roc(odds, of) for odds, of in zip(log_odds.T, entries.T, strict=True)]


def mean_area_under_roc(log_odds: LogOdds, entries: Entries) -> float:
    """Returns the mean of `areas_under_roc` over the classes that have one; one half where none
    has.
    """
    found = [value for value in areas_under_roc(log_odds, entries) if value is not None]
    return sum(found) / len(found) if found else HALF


def _area_under_roc(log_odds: torch.Tensor, entries: torch.Tensor) -> float | None:
    odds, positive = log_odds[entries >= 0], entries[entries >= 0] == 1
    num_yes, num_no = int(positive.sum()), int((~positive).sum())
    if num_yes == 0 or num_no == 0:
        return None
    _, place, counts = torch.unique(odds, return_inverse=True, return_counts=True)
    ranks = counts.cumsum(0).double() - (counts.double() - 1) / 2  # equal log-odds share their mean rank
    above = float(ranks[place[positive]].sum()) - num_yes * (num_yes + 1) / 2
    return above / (num_yes * num_no)


def prevalence(entries: Entries) -> float:
    """Returns the mean share of known entries that are 1, over the classes that any sample is of:
    the mean average precision of an order by chance.
    """
    known, yes = (entries >= 0).sum(dim=0).double(), (entries == 1).sum(dim=0).double()
    return float((yes / known.clamp(min=1))[yes > 0].mean()) if (yes > 0).any() else 0.0


def binary_nll(log_odds: LogOdds, entries: Entries) -> float:
    """Returns the mean negative log-likelihood of the known entries, in nats for an entry."""
    known = entries >= 0
    return float(F.binary_cross_entropy_with_logits(log_odds[known].double(), entries[known].double()))


def binary_ece(log_odds: LogOdds, entries: Entries) -> float:
    """Returns the expected calibration error of known entries: the mean gap between the probability
    of a yes and how often it is one, over 15 bins of equal width, weighted by their counts.

    References:
        Mahdi Pakdaman Naeini, Gregory F. Cooper, Milos Hauskrecht, "Obtaining Well Calibrated
        Probabilities Using Bayesian Binning", 2015, section 3 (the binary case).
    """
    bins = binary_reliability(log_odds, entries)
    count = sum(one.count for one in bins)
    return sum(one.count * abs(one.confidence - one.accuracy) for one in bins) / count if count else 0.0


def binary_reliability(log_odds: LogOdds, entries: Entries) -> list[ReliabilityBin]:
    """Returns the mean probability of a yes (`confidence`), and how often it is one (`accuracy`),
    of the known entries in 15 bins of equal width; empty bins are left out.
    """
    known = entries >= 0
    probs, yes = torch.sigmoid(log_odds[known].double()), (entries[known] == 1).double()
    index = (probs * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    counts, confidence, right = (torch.bincount(index, each, NUM_BINS) for each in (None, probs, yes))
    return [
        ReliabilityBin(n / NUM_BINS, (n + 1) / NUM_BINS, count, float(confidence[n] / count), float(right[n] / count))
        for n, count in enumerate(counts.tolist())
        if count
    ]


def f1(log_odds: LogOdds, entries: Entries, threshold: float = HALF) -> tuple[float, float]:
    """Returns the F1 score of known entries, taken together (micro) and as a mean over the classes
    that any sample is of (macro).

        F1 = 2 * hits / (2 * hits + false alarms + misses)

    Args:
        threshold: The probability from which on an entry is predicted as 1.
    """
    predicted, known = torch.sigmoid(log_odds.double()) >= threshold, entries >= 0
    yes = entries == 1
    hits = (predicted & yes).sum(dim=0).double()
    wrong = ((predicted != yes) & known).sum(dim=0).double()
    there = yes.any(dim=0)
    each = 2 * hits / (2 * hits + wrong).clamp(min=1)
    total = 2 * hits.sum() / (2 * hits.sum() + wrong.sum()).clamp(min=1)
    return float(total), float(each[there].mean()) if there.any() else 0.0


def best_threshold(log_odds: LogOdds, entries: Entries) -> float:
    """Returns the threshold of the largest micro F1, of those in steps of 0.01: to be chosen on
    samples that no figure is given for. Of equals it is the nearest to one half.
    """
    known, tried = entries >= 0, torch.arange(1, 100, dtype=torch.float64) / 100
    yes = entries[known] == 1
    reached = torch.searchsorted(tried, torch.sigmoid(log_odds[known].double()), right=True)
    hits, alarms = (_at_least(reached[of], len(tried)) for of in (yes, ~yes))
    scores = 2 * hits / (hits + alarms + yes.sum()).clamp(min=1)
    found: list[tuple[float, float]] = list(zip(scores.tolist(), tried.tolist(), strict=True))
    return max(found, key=lambda pair: (pair[0], -abs(pair[1] - HALF)))[1]


def _at_least(reached: Int64[torch.Tensor, " entries"], most: int) -> Float64[torch.Tensor, " most"]:
    """Returns how many entries reach each threshold, given how many thresholds each reaches."""
    return torch.bincount(reached, minlength=most + 1).flip(0).cumsum(0).flip(0)[1:].double()
