"""Test accuracy broken down: by class, by pair of classes, and among the few likeliest classes.

Accuracy as a whole, which training needs too, is in signals/metrics.py.
"""

import torch
from jaxtyping import Float, Integer

Classes = Integer[torch.Tensor, " samples"]


def top_k_accuracy(logits: Float[torch.Tensor, "samples classes"], hard_labels: Classes, k: int) -> float:
    """Returns the share of samples whose hard label is among the `k` largest logits, 0 to 1.

    References:
        Olga Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", 2015, arXiv
        1409.0575, section 4.1, which has k = 5.
    """
    return (logits.topk(k, dim=1).indices == hard_labels[:, None]).any(dim=1).double().mean().item()


def class_counts(hard_labels: Classes, num_classes: int) -> list[int]:
    """Returns the number of samples of each class."""
    counts: list[int] = hard_labels.bincount(minlength=num_classes).tolist()
    return counts


def class_accuracies(predicted: Classes, hard_labels: Classes, num_classes: int) -> list[float | None]:
    """Returns each class's share of samples that are predicted as it, 0 to 1; None for a class
    without samples.
    """
    right = class_counts(hard_labels[predicted == hard_labels], num_classes)
    return [n / of if of else None for n, of in zip(right, class_counts(hard_labels, num_classes), strict=True)]


def confusions(predicted: Classes, hard_labels: Classes) -> list[tuple[int, int, int]]:
    """Returns the number of samples of each class that were predicted as each: (actual, predicted,
    count), where there are any.
    """
    pairs, counts = torch.stack([hard_labels.long(), predicted.long()]).unique(dim=1, return_counts=True)
    return [(actual, found, count) for (actual, found), count in zip(pairs.T.tolist(), counts.tolist(), strict=True)]
