"""The loss against hard labels, of plain views and of views that are mixed of two, and the weights
of classes in it.
"""

import torch
from jaxtyping import Float

from pipeline.signals import HardLabels, Signal
from pipeline.signals.categorical import CATEGORICAL
from pipeline.training.batches import Batch

#: The labels of the second samples of mixed views, and the shares of the first ones.
Partners = tuple[HardLabels, Float[torch.Tensor, " batch"]]


def class_weights(
    hard_labels: HardLabels, balance: float, device: torch.device, signal: Signal = CATEGORICAL
) -> Float[torch.Tensor, " classes"] | None:
    """Returns the weight of each class in the loss of hard labels, on a device; None: all are 1.

    It is that of all samples of the class; of independent classes, that of the entries that are 1;
    of maps of classes, that of the pixels.
    With n images of a class the weight is proportional to

        n ** -balance

    and its mean over the labelled images is 1, so that a learning rate means the same. At 1 each
    class counts as much as any other; at 0.5 rare classes gain, but noise in the few images of a
    class that is very rare does not lead.

    References:
        Dhruv Mahajan et al., "Exploring the Limits of Weakly Supervised Pretraining", 2018, arXiv
        1805.00932, section 2.2 (the square root).
    """
    if balance == 0:
        return None
    counts = signal.class_counts(hard_labels)
    weights = counts.clamp(min=1) ** -balance
    return (weights * counts.sum() / (weights * counts).sum()).float().to(device)


def hard_label_loss(
    logits: Float[torch.Tensor, "batch classes *grid"],
    batch: Batch,
    label_smoothing: float,
    weights: Float[torch.Tensor, " known_classes"] | None = None,
    signal: Signal = CATEGORICAL,
) -> Float[torch.Tensor, " batch"]:
    """Returns the cross-entropy of each view, in nats, on the device of the logits.

    Args:
        weights: As for `mixed_cross_entropy`.
        signal: What the hard labels say.
    """
    partners = partners_of(batch.partner_labels, batch.own_shares)
    return mixed_cross_entropy(
        logits, batch.hard_labels, partners=partners, label_smoothing=label_smoothing, weights=weights, signal=signal
    )


def partners_of(labels: HardLabels | None, own_shares: Float[torch.Tensor, " batch"] | None) -> Partners | None:
    """Returns what mixed views have besides their own label; None: views are plain."""
    return None if labels is None or own_shares is None else (labels, own_shares)


def mixed_cross_entropy(
    logits: Float[torch.Tensor, "batch classes *grid"],
    hard_labels: HardLabels,
    *,
    partners: Partners | None = None,
    label_smoothing: float = 0.0,
    weights: Float[torch.Tensor, " known_classes"] | None = None,
    signal: Signal = CATEGORICAL,
) -> Float[torch.Tensor, " batch"]:
    """Returns the cross-entropy of each view, in nats, on the device of the logits; of a map of
    classes it is the mean over the known positions.

    For a view that is mixed of two samples it is that of both labels, weighted by the shares:

        own_share * CE(logits, hard_label) + (1 - own_share) * CE(logits, partner_label)

    Args:
        partners: The labels of the second samples, and the shares of the first; None: views are
            not mixed.
        weights: Of the classes, as `class_weights` has them; each CE is multiplied by its label's.

    References:
        Hongyi Zhang, Moustapha Cisse, Yann N. Dauphin, David Lopez-Paz, "mixup: Beyond Empirical
        Risk Minimization", 2017, arXiv 1710.09412, section 2.
    """
    device = logits.device

    def loss(labels: HardLabels) -> Float[torch.Tensor, " batch"]:
        return signal.hard_loss(logits, labels.to(device, non_blocking=True), label_smoothing, weights)

    own = loss(hard_labels)
    if partners is None:
        return own
    own_shares = partners[1].to(device, non_blocking=True)
    return own_shares * own + (1 - own_shares) * loss(partners[0])
