"""Losses as pure functions: logits and targets in, one value (in nats) per example out."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64

_FEW_CLASSES = 64


def cross_entropy(
    logits: Float[torch.Tensor, "batch classes"],
    hard_labels: Int64[torch.Tensor, " batch"],
    *,
    label_smoothing: float = 0.0,
) -> Float[torch.Tensor, " batch"]:
    """Returns -log p(hard label) per example, in nats; 0 where there is no label (-1).

    Targets give `label_smoothing` of their mass to all classes alike.
    """
    return F.cross_entropy(logits, hard_labels, reduction="none", label_smoothing=label_smoothing, ignore_index=-1)


def kl_divergence_with_log_targets(
    log_targets: Float[torch.Tensor, "batch classes"], logits: Float[torch.Tensor, "batch classes"]
) -> Float[torch.Tensor, " batch"]:
    """Returns KL(targets || softmax(logits)) per example, in nats.

    It is the sum over classes of p_t (log p_t - log p_s).
    """
    return F.kl_div(F.log_softmax(logits, dim=1), log_targets, reduction="none", log_target=True).sum(dim=1)


def log_normalise(
    scores: Float[torch.Tensor, "labels classes *grid"],
) -> Float[torch.Tensor, "labels classes *grid"]:
    """Returns log_softmax over the classes.

    For few classes on a CPU it runs along the other axis in memory, several times as fast (10
    classes, torch 2.15). Scores that lie in memory class by class stay so."""
    if scores.ndim == 2 and scores.shape[1] < _FEW_CLASSES and scores.device.type == "cpu":
        values = torch.log_softmax(scores.T, dim=0).T
        return values if scores.T.is_contiguous() else values.contiguous()
    return torch.log_softmax(scores, dim=1)
