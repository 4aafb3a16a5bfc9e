"""The figures of classes at positions, counted over the known positions of all samples together."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64, Integer

from pipeline.signals.metrics import NUM_BINS, ReliabilityBin
from pipeline.signals.pieces import by_pieces

_COUNTED = 256  # samples at once, whose counts of 150 classes take 46 MB
Outputs = Float[torch.Tensor, "samples classes *grid"]
Maps = Integer[torch.Tensor, "samples ..."]
#: Numbers of positions, by their class (rows) and the one that was predicted (columns).
Confusion = Int64[torch.Tensor, "classes classes"]


def confusion_of(outputs: Outputs, maps: Maps) -> Confusion:
    """Returns the number of known positions of each class that each class was predicted at."""
    parts = zip(outputs.split(_COUNTED), maps.split(_COUNTED), strict=True)
    return torch.stack([confusion_of_each(*part).sum(dim=0) for part in parts]).sum(dim=0)


def confusion_of_each(outputs: Outputs, maps: Maps) -> Int64[torch.Tensor, "samples classes classes"]:
    """Returns the same for each sample by itself."""
    classes = outputs.shape[1]

    def count(some: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        known = (labels >= 0).flatten(1)
        cells = (labels.long() * classes + some.argmax(dim=1)).flatten(1)
        first = torch.arange(len(some), device=some.device)[:, None] * classes**2
        counts = torch.bincount((cells + first)[known], minlength=len(some) * classes**2)
        return counts.reshape(len(some), classes, classes)

    return by_pieces(count, outputs, maps)


def ious(confusion: Confusion) -> Float64[torch.Tensor, " classes"]:
    """Returns the intersection over union of each class, 0 to 1; NaN for one that is nowhere and
    was predicted nowhere.

    References:
        Mark Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", 2010, section
        4.1 (segmentation).
    """
    found = confusion.diagonal().double()
    union = confusion.sum(dim=0) + confusion.sum(dim=1) - found
    return torch.where(union > 0, found / union, torch.nan)


def mean_iou(confusion: Confusion) -> float:
    """Returns the mean of `ious` over the classes that have one; 0 where none has."""
    of_each = ious(confusion)
    return of_each.nanmean().item() if of_each.isfinite().any() else 0.0


def chance_iou(confusion: Confusion) -> float:
    """Returns the mean IoU of predictions of the same frequencies at random positions."""
    total = confusion.sum().clamp(min=1).double()
    labelled, predicted = confusion.sum(dim=1) / total, confusion.sum(dim=0) / total
    both = labelled * predicted
    union = labelled + predicted - both
    there = union > 0
    return (both[there] / union[there]).mean().item() if there.any() else 0.0


def guessed_iou(counts: Float[torch.Tensor, " classes"]) -> float:
    """Returns the mean IoU that is reached without a look at the images: of the most frequent class
    everywhere, or of classes as frequent as they are at random positions.

    Args:
        counts: Positions of each class.
    """
    shares = counts[counts > 0] / counts.sum()
    if not len(shares):
        return 0.0
    return max((shares / (2 - shares)).mean().item(), shares.max().item() / len(shares))


@dataclass(frozen=True)
class _Sureness:
    """The NLL of known positions in nats, and how often the likeliest class is right, in bins."""

    nll: float
    bins: list[ReliabilityBin]

    @property
    def ece(self) -> float:
        count = sum(each.count for each in self.bins)
        return sum(each.count * abs(each.confidence - each.accuracy) for each in self.bins) / max(1, count)


def sureness(outputs: Outputs, maps: Maps) -> _Sureness:
    """Returns NLL and reliability of the known positions."""

    def tally(some: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        log_probs, known = torch.log_softmax(some.double(), dim=1), (labels >= 0).flatten(1)
        at_label = log_probs.gather(1, labels.long().clamp(min=0)[:, None]).flatten(1)
        largest, predicted = (each.flatten(1) for each in log_probs.max(dim=1))
        confidence, correct = largest.exp(), predicted == labels.flatten(1)
        index = (confidence * NUM_BINS).ceil().long().clamp(1, NUM_BINS) - 1
        sums = torch.zeros(len(some), 3, NUM_BINS + 1, dtype=torch.float64, device=some.device)
        for number, values in enumerate((torch.ones_like(confidence), confidence, correct.double())):
            sums[:, number, :NUM_BINS].scatter_add_(1, index, values * known)
        sums[:, 0, NUM_BINS] = -(at_label * known).sum(dim=1)
        return sums

    sums = by_pieces(tally, outputs, maps).sum(dim=0)
    count, confidence, correct = sums[:, :NUM_BINS]
    bins = [
        ReliabilityBin(
            number / NUM_BINS,
            (number + 1) / NUM_BINS,
            int(count[number]),
            (confidence[number] / count[number]).item(),
            (correct[number] / count[number]).item(),
        )
        for number in count.nonzero()[:, 0].tolist()
    ]
    return _Sureness((sums[0, NUM_BINS] / count.sum().clamp(min=1)).item(), bins)


def grid_metrics(outputs: Outputs, maps: Maps) -> dict[str, float]:
    """Returns mean IoU, and accuracy, NLL (nats) and ECE over the known positions."""
    confusion, sure = confusion_of(outputs, maps), sureness(outputs, maps)
    accuracy = (confusion.diagonal().sum() / confusion.sum().clamp(min=1)).item()
    return {"miou": mean_iou(confusion), "accuracy": accuracy, "nll": sure.nll, "ece": sure.ece}
