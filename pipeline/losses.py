"""Losses as pure functions: logits and targets in, one value (in nats) per example out."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64

from pipeline.targets import SparseTargets


def cross_entropy(
    logits: Float[torch.Tensor, "batch classes"],
    hard_labels: Int64[torch.Tensor, " batch"],
    *,
    label_smoothing: float = 0.0,
) -> Float[torch.Tensor, " batch"]:
    """-log p(hard label), with targets that give `label_smoothing` of their mass to all classes alike; 0 where there is no
    label (-1)."""
    return F.cross_entropy(logits, hard_labels, reduction="none", label_smoothing=label_smoothing, ignore_index=-1)


def kl_divergence_with_log_targets(
    log_targets: Float[torch.Tensor, "batch classes"], logits: Float[torch.Tensor, "batch classes"]
) -> Float[torch.Tensor, " batch"]:
    """KL(targets || softmax(logits)): the sum over classes of p_t (log p_t - log p_s)."""
    return F.kl_div(F.log_softmax(logits, dim=1), log_targets, reduction="none", log_target=True).sum(dim=1)


def kl_divergence_with_sparse_targets(
    targets: SparseTargets, logits: Float[torch.Tensor, "batch classes"]
) -> Float[torch.Tensor, " batch"]:
    """KL(targets || softmax(logits)) over the same set on both sides: the kept classes and one bucket of all others.

    With every class but one kept it is the dense divergence. Classes of probability 0 count nothing.
    """
    log_student, num_classes = torch.log_softmax(logits, dim=1), logits.shape[1]
    is_kept = targets.log_probs > -torch.inf
    kept = targets.log_probs.exp()
    log_student_kept = log_student.gather(1, torch.where(is_kept, targets.classes, 0))
    terms = torch.where(is_kept, kept * (targets.log_probs - log_student_kept), 0.0).sum(dim=1)
    if targets.log_rest is None:
        return terms
    # The bucket of the others by its own sum: 1 minus the kept classes would cancel where the student is sure.
    # Padding is marked in a column of its own, so that it takes no class from the bucket.
    marked = torch.zeros(len(logits), num_classes + 1, dtype=torch.bool, device=logits.device)
    marked.scatter_(1, torch.where(is_kept, targets.classes, num_classes), True)
    log_others = log_student.masked_fill(marked[:, :num_classes], -torch.inf).logsumexp(dim=1)
    rest = targets.log_rest.exp()
    return terms + torch.where(rest > 0, rest * (targets.log_rest - log_others), 0.0)


def knowledge_distillation(
    logits: Float[torch.Tensor, "batch classes"],
    soft_targets: Float[torch.Tensor, "batch classes"] | SparseTargets,
    *,
    temperature: float,
) -> Float[torch.Tensor, " batch"]:
    """temperature^2 KL(teacher || student), both at `temperature`.

    The square keeps the gradient's size when the temperature changes. `soft_targets` are the teacher's
    log-probabilities at that temperature already: of every class, or of the kept classes and the rest, over which the
    student is then summed up too.

    References:
        Geoffrey Hinton, Oriol Vinyals, Jeff Dean, "Distilling the Knowledge in a Neural Network", 2015,
        arXiv 1503.02531, section 2.
    """
    if isinstance(soft_targets, SparseTargets):
        return temperature**2 * kl_divergence_with_sparse_targets(soft_targets, logits / temperature)
    return temperature**2 * kl_divergence_with_log_targets(soft_targets, logits / temperature)
