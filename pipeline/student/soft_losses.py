"""What students learn from soft targets beside plain distillation: pure functions, one value per example out.

Soft targets are the teacher's log-probabilities of every class, at the temperature already. Kept apart from `losses`,
which teachers learn from too: a change here retrains no teacher.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64

from pipeline.signals.losses import kl_divergence_with_log_targets

_LEAST_STD = 1e-7
_LEAST_NORMS = 1e-8  # of a product of two norms


def decoupled_knowledge_distillation(
    logits: Float[torch.Tensor, "batch classes"],
    soft_targets: Float[torch.Tensor, "batch classes"],
    hard_labels: Int64[torch.Tensor, " batch"],
    *,
    temperature: float,
    target_weight: float,
    other_weight: float,
) -> Float[torch.Tensor, " batch"]:
    """temperature^2 (target_weight TCKD + other_weight NCKD): KL of the pair (hard label, all other classes), and KL over
    the other classes among themselves. With two classes the second is 0.

    Knowledge distillation is the same with target_weight 1 and, example by example, the teacher's probability of the
    other classes for other_weight: small where the teacher is sure.

    References:
        Borui Zhao, Quan Cui, Renjie Song, Yiyu Qiu, Jiajun Liang, "Decoupled Knowledge Distillation", 2022,
        arXiv 2203.08679, section 3.
    """
    log_student = F.log_softmax(logits / temperature, dim=1)
    others = _other_classes(hard_labels, logits.shape[1])
    student_pair, teacher_pair = (_pair(log_probs, hard_labels, others) for log_probs in (log_student, soft_targets))
    target = F.kl_div(student_pair, teacher_pair, reduction="none", log_target=True).sum(dim=1)
    log_teacher_others = F.log_softmax(soft_targets.gather(1, others), dim=1)
    other = kl_divergence_with_log_targets(log_teacher_others, log_student.gather(1, others))
    return temperature**2 * (target_weight * target + other_weight * other)


def normalised_knowledge_distillation(
    logits: Float[torch.Tensor, "batch classes"],
    soft_targets: Float[torch.Tensor, "batch classes"],
    hard_labels: Int64[torch.Tensor, " batch"],
    *,
    temperature: float,
    gamma: float,
) -> Float[torch.Tensor, " batch"]:
    """-p_teacher log p_student of the hard label at temperature 1, and gamma temperature^2 times the cross-entropy over
    the other classes among themselves, at `temperature`. The least value is not 0.

    The teacher at temperature 1 is found again from its soft targets; a filled tail is so only about right unless
    `temperature` is 1.

    References:
        Zhendong Yang, Ailing Zeng, Zhe Li, Tianke Zhang, Chun Yuan, Yu Li, "From Knowledge Distillation to Self-Knowledge
        Distillation: A Unified Approach with Normalized Loss and Customized Soft Labels", 2023, arXiv 2303.13005, section 3.
    """
    column = hard_labels[:, None]
    log_teacher = F.log_softmax(temperature * soft_targets, dim=1).gather(1, column).squeeze(1)
    target = -log_teacher.exp() * F.log_softmax(logits, dim=1).gather(1, column).squeeze(1)
    others = _other_classes(hard_labels, logits.shape[1])
    teacher_others = F.softmax(soft_targets.gather(1, others), dim=1)
    log_student_others = F.log_softmax(logits.gather(1, others) / temperature, dim=1)
    return target - gamma * temperature**2 * (teacher_others * log_student_others).sum(dim=1)


def dist(
    logits: Float[torch.Tensor, "batch classes"],
    soft_targets: Float[torch.Tensor, "batch classes"],
    *,
    temperature: float,
    inter_class_weight: float,
    intra_class_weight: float,
) -> Float[torch.Tensor, " batch"]:
    """temperature^2 times what the correlations of student's and teacher's probabilities lack of 1: over the classes of
    each example (inter-class), and over the examples for each class (intra-class).

    A loss of the batch: the second term is one number, which every example carries. Its mean is the paper's loss; an
    example's value depends on the others. It is 0 for a batch of one, which has no correlation. What is constant has a
    correlation of 0.

    References:
        Tao Huang, Shan You, Fei Wang, Chen Qian, Chang Xu, "Knowledge Distillation from A Stronger Teacher", 2022,
        arXiv 2205.10536, section 4.
    """
    student, teacher = F.softmax(logits / temperature, dim=1), soft_targets.exp()
    value = inter_class_weight * (1 - _pearson(student, teacher, dim=1))
    if len(logits) > 1:
        value = value + intra_class_weight * (1 - _pearson(student, teacher, dim=0).mean())
    return temperature**2 * value


def centred_mse(
    logits: Float[torch.Tensor, "batch classes"],
    soft_targets: Float[torch.Tensor, "batch classes"],
    *,
    temperature: float,
) -> Float[torch.Tensor, " batch"]:
    """temperature^2 times the mean over classes of the squared difference of both sides' scores at `temperature`, each
    less its mean: a shift of the logits changes no prediction and must cost nothing.

    The temperature cancels: it is the distance of the centred logits, half of which KD tends to as its temperature
    grows.

    References:
        Taehyeon Kim, Jaehoon Oh, NakYil Kim, Sangwook Cho, Se-Young Yun, "Comparing Kullback-Leibler Divergence and Mean
        Squared Error Loss in Knowledge Distillation", 2021, arXiv 2105.08919, section 3.
    """
    difference = logits / temperature - soft_targets
    return temperature**2 * (difference - difference.mean(dim=1, keepdim=True)).square().mean(dim=1)


def standardise(scores: Float[torch.Tensor, "batch classes"]) -> Float[torch.Tensor, "batch classes"]:
    """Each row less its mean, over its standard deviation (unbiased, + 1e-7): a shift or a factor changes nothing.

    So a temperature times the log-probabilities at it gives what the logits give.

    References:
        Shangquan Sun, Wenqi Ren, Jingzhi Li, Rui Wang, Xiaochun Cao, "Logit Standardization in Knowledge Distillation",
        2024, arXiv 2403.01427, section 4.
    """
    return (scores - scores.mean(dim=1, keepdim=True)) / (scores.std(dim=1, keepdim=True) + _LEAST_STD)


def _other_classes(hard_labels: Int64[torch.Tensor, " batch"], num_classes: int) -> Int64[torch.Tensor, "batch others"]:
    """All classes but the hard label, by number."""
    numbers = torch.arange(num_classes - 1, device=hard_labels.device)
    return numbers + (numbers >= hard_labels[:, None])


def _pair(log_probs: torch.Tensor, hard_labels: torch.Tensor, others: torch.Tensor) -> Float[torch.Tensor, "batch 2"]:
    """The log-probability of the hard label and of all other classes, by their own sum: log(1 - p) is -inf where p
    rounds to 1."""
    rest = log_probs.gather(1, others).logsumexp(dim=1, keepdim=True)
    return torch.cat([log_probs.gather(1, hard_labels[:, None]), rest], dim=1)


def _pearson(one: torch.Tensor, other: torch.Tensor, dim: int) -> torch.Tensor:
    one, other = one - one.mean(dim=dim, keepdim=True), other - other.mean(dim=dim, keepdim=True)
    norms: torch.Tensor = torch.linalg.vector_norm(one, dim=dim) * torch.linalg.vector_norm(other, dim=dim)
    return (one * other).sum(dim=dim) / (norms + _LEAST_NORMS)
