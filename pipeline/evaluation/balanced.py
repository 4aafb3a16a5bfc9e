"""Figures of a classifier in which every class counts the same, however few samples it has."""

import torch
from jaxtyping import Float, Float64, Int64


def class_weights_of(hard_labels: Int64[torch.Tensor, " samples"]) -> Float64[torch.Tensor, " samples"]:
    """Returns a weight for each sample, 1 on average, with which every class that has samples
    counts the same.
    """
    counts = hard_labels.bincount().double()
    return (len(hard_labels) / (counts > 0).sum() / counts)[hard_labels]


def balanced_accuracy(
    logits: Float[torch.Tensor, "samples classes"], hard_labels: Int64[torch.Tensor, " samples"]
) -> float:
    """Returns the mean over the classes of the share of its samples that are predicted as it, 0 to
    1. Classes without samples are left out; guessing one class for all comes to 1 / classes.

    References:
        Kay H. Brodersen, Cheng Soon Ong, Klaas E. Stephan, Joachim M. Buhmann, "The Balanced
        Accuracy and Its Posterior Distribution", ICPR 2010, section II.
    """
    right = (logits.argmax(dim=1) == hard_labels).double()
    return (right * class_weights_of(hard_labels)).mean().item()


def macro_f1(logits: Float[torch.Tensor, "samples classes"], hard_labels: Int64[torch.Tensor, " samples"]) -> float:
    """Returns the mean over the classes of F1, 0 to 1:

        2 * right / (samples of the class + samples predicted as it)

    Classes without samples are left out.

    References:
        Juri Opitz, Sebastian Burst, "Macro F1 and Macro F1", 2019, arXiv 1911.03347, equation 2:
        the mean of the classes' F1, not F1 of their mean precision and recall.
    """
    classes, predicted = logits.shape[1], logits.argmax(dim=1)
    of, taken = hard_labels.bincount(minlength=classes), predicted.bincount(minlength=classes)
    right = hard_labels[predicted == hard_labels].bincount(minlength=classes)
    return (2 * right / (of + taken))[of > 0].double().mean().item()
