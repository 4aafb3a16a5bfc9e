"""The loss against hard labels, of plain views and of views that are mixed of two."""

import torch
from jaxtyping import Float

from pipeline.signals.losses import cross_entropy
from pipeline.training.batches import Batch


def hard_label_loss(
    logits: Float[torch.Tensor, "batch classes"], batch: Batch, label_smoothing: float
) -> Float[torch.Tensor, " batch"]:
    """Returns the cross-entropy of each view, in nats, on the device of the logits.

    For a view that is mixed of two samples it is that of both labels, weighted by the shares:

        own_share * CE(logits, hard_label) + (1 - own_share) * CE(logits, partner_label)

    References:
        Hongyi Zhang, Moustapha Cisse, Yann N. Dauphin, David Lopez-Paz, "mixup: Beyond Empirical
        Risk Minimization", 2017, arXiv 1710.09412, section 2.
    """
    device = logits.device
    hard_labels = batch.hard_labels.to(device, non_blocking=True)
    own = cross_entropy(logits, hard_labels, label_smoothing=label_smoothing)
    if batch.partner_labels is None or batch.own_shares is None:
        return own
    partner_labels = batch.partner_labels.to(device, non_blocking=True)
    own_shares = batch.own_shares.to(device, non_blocking=True)
    partner = cross_entropy(logits, partner_labels, label_smoothing=label_smoothing)
    return own_shares * own + (1 - own_shares) * partner
