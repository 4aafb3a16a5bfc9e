"""Knowledge distillation: the KL divergence of the teacher's soft targets from the student."""

import torch
from jaxtyping import Float

from pipeline.labels.targets import SparseTargets
from pipeline.signals.losses import kl_divergence_with_log_targets


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
