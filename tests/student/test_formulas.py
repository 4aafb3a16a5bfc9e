"""Losses against the formulas of their papers and of other projects, values and gradients.

The formulas are written here as the papers define them, in float64. torchdistill 1.1.5 (KD, DIST,
standardised KD), mdistiller (KD, DKD, and both standardised in its extension) and cls_KD (NKD, by
its authors) compute the same, except where `DIFFERENCES` names what they compute instead.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from logits import HARD_LABELS, STUDENT, TEACHER, random_logits
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, one_hot

from pipeline.student.losses import build_loss

Examples = tuple[Tensor, Tensor, Tensor]  # the logits of student and teacher, hard labels
Cosine = Callable[[Tensor, Tensor], Tensor]
Formula = Callable[[Tensor, Tensor, Tensor, float], Tensor]
Row = dict[str, Any]

PLAIN, STANDARDISED = {"standardize": False}, {"standardize": True}
KD, KD_OF_SCORES, MSE = PLAIN | {"kind": "kd"}, STANDARDISED | {"kind": "kd"}, PLAIN | {"kind": "mse"}
DKD: Row = PLAIN | {"kind": "dkd", "target_weight": 1.0, "other_weight": 8.0, "warmup_epochs": 1}
DIST: Row = PLAIN | {"kind": "dist", "inter_class_weight": 2.0, "intra_class_weight": 0.5}
NKD: Row = PLAIN | {"kind": "nkd", "gamma": 1.5}


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    return torch.softmax(logits / temperature, dim=1)


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Returns the mean over examples; a probability of 0 of the teacher counts nothing."""
    return torch.where(teacher > 0, teacher * (teacher.log() - student.log()), 0.0).sum(dim=1).mean()


def kd(student: Tensor, teacher: Tensor, labels: Tensor, t: float) -> Tensor:
    """Returns Hinton et al., arXiv 1503.02531: mdistiller's KD, torchdistill's with a hard loss."""
    return t**2 * divergence(probabilities(teacher, t), probabilities(student, t))


def z_scores(logits: Tensor) -> Tensor:
    """Returns Sun et al., arXiv 2403.01427, unbiased, as in their code and torchdistill's."""
    squares = (logits - logits.mean(dim=1, keepdim=True)).square().sum(dim=1, keepdim=True)
    deviation = (squares / (logits.shape[1] - 1)).sqrt()
    return (logits - logits.mean(dim=1, keepdim=True)) / (1e-7 + deviation)


def standardised(formula: Formula) -> Formula:
    def of_scores(student: Tensor, teacher: Tensor, labels: Tensor, t: float) -> Tensor:
        return formula(z_scores(student), z_scores(teacher), labels, t)

    return of_scores


def without(probs: Tensor, labels: Tensor) -> Tensor:
    """Returns the probabilities of the classes besides the hard label among themselves."""
    others = probs[one_hot(labels, probs.shape[1]) == 0].view(len(probs), -1)
    return others / others.sum(dim=1, keepdim=True)


def pair(probs: Tensor, labels: Tensor) -> Tensor:
    is_label = one_hot(labels, probs.shape[1])
    return torch.stack([(probs * is_label).sum(dim=1), (probs * (1 - is_label)).sum(dim=1)], dim=1)


def tckd(student: Tensor, teacher: Tensor, labels: Tensor, t: float) -> Tensor:
    """Returns the hard label's part of mdistiller's DKD."""
    p, q = probabilities(teacher, t), probabilities(student, t)
    return t**2 * divergence(pair(p, labels), pair(q, labels))


def dkd(student: Tensor, teacher: Tensor, labels: Tensor, t: float) -> Tensor:
    """Returns Zhao et al., arXiv 2203.08679: mdistiller's DKD, warmed up, weights 1 and 8."""
    p, q = probabilities(teacher, t), probabilities(student, t)
    return tckd(student, teacher, labels, t) + 8 * t**2 * divergence(without(p, labels), without(q, labels))


def cosine(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=1) / (one.norm(dim=1) * other.norm(dim=1) + 1e-8)


def dist(student: Tensor, teacher: Tensor, labels: Tensor, t: float, cosine: Cosine = cosine) -> Tensor:
    """Returns Huang et al., arXiv 2205.10536, weights 2 and 0.5, with 1e-8 as in their code."""

    def distance(one: Tensor, other: Tensor) -> Tensor:
        one, other = (each - each.mean(dim=1, keepdim=True) for each in (one, other))
        return 1 - cosine(one, other).mean()

    q, p = probabilities(student, t), probabilities(teacher, t)
    return t**2 * (2 * distance(q, p) + 0.5 * distance(q.T, p.T))


def hard_part(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    p, q = (pair(probabilities(logits, 1), labels)[:, 0] for logits in (teacher, student))
    return -(p * q.log()).mean()


def nkd(student: Tensor, teacher: Tensor, labels: Tensor, t: float) -> Tensor:
    """Returns Yang et al., arXiv 2303.13005: cls_KD's NKD with gamma 1.5."""
    p, q = (without(probabilities(logits, t), labels) for logits in (teacher, student))
    return hard_part(student, teacher, labels) - 1.5 * t**2 * (p * q.log()).sum(dim=1).mean()


def mse(student: Tensor, teacher: Tensor, labels: Tensor, t: float) -> Tensor:
    """Returns Kim et al., arXiv 2105.08919, of the logits less their means."""
    difference = student - teacher
    return (difference - difference.mean(dim=1, keepdim=True)).square().mean()


AGREEING: dict[str, tuple[Row, Formula]] = {
    "kd": (KD, kd),
    "dkd": (DKD, dkd),
    "dist": (DIST, dist),
    "nkd": (NKD, nkd),
    "mse": (MSE, mse),
    "kd, standardised": (KD_OF_SCORES, standardised(kd)),
    "dkd, standardised": (DKD | STANDARDISED, standardised(dkd)),
}


def ours(row: Row) -> Formula:
    loss = build_loss(row, "loss")

    def mean(student: Tensor, teacher: Tensor, labels: Tensor, t: float) -> Tensor:
        return loss(student, torch.log_softmax(teacher / t, dim=1), labels, temperature=t, epoch=0).mean()

    return mean


def with_gradient(formula: Formula, examples: Examples, temperature: float) -> tuple[Tensor, Tensor]:
    student, teacher, labels = examples
    student = student.clone().requires_grad_()
    value = formula(student, teacher, labels, temperature)
    return value.detach(), torch.autograd.grad(value, student)[0]


@pytest.mark.parametrize("name", AGREEING)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("scale", [0.01, 3.0, 30.0])
def test_values_and_gradients_are_those_of_the_formula(name: str, temperature: float, scale: float) -> None:
    row, formula = AGREEING[name]
    for classes in (2, 3, 10, 100):
        examples = (*random_logits(classes, 8, classes, scale), torch.arange(8) * 7 % classes)
        expected = with_gradient(formula, examples, temperature)
        torch.testing.assert_close(with_gradient(ours(row), examples, temperature), expected, rtol=1e-7, atol=1e-10)


# Where theirs is something else.


def alone(student: Tensor, teacher: Tensor, labels: Tensor, t: float) -> Tensor:
    return divergence(probabilities(teacher, t), probabilities(student, t))


def kd_by_classes(student: Tensor, teacher: Tensor, labels: Tensor, t: float) -> Tensor:
    return kd(student, teacher, labels, t) / student.shape[1]


def kd_with_entropy(student: Tensor, teacher: Tensor, labels: Tensor, t: float) -> Tensor:
    return t**2 * cross_entropy(student / t, probabilities(teacher, t))


def dist_of_bounded_norms(student: Tensor, teacher: Tensor, labels: Tensor, t: float) -> Tensor:
    return dist(student, teacher, labels, t, lambda one, other: cosine_similarity(one, other, dim=1, eps=1e-8))


def nckd_of_lowered_labels(student: Tensor, teacher: Tensor, labels: Tensor, t: float) -> Tensor:
    p, q = (torch.softmax(logits / t - 1000 * one_hot(labels, logits.shape[1]), dim=1) for logits in (teacher, student))
    return t**2 * divergence(p, q)


def nkd_of_all_classes(student: Tensor, teacher: Tensor, labels: Tensor, t: float) -> Tensor:
    p, q = probabilities(teacher, t), probabilities(student, t)
    return hard_part(student, teacher, labels) - 1.5 * t**2 * (p * q.log()).sum(dim=1).mean()


alone_of_scores = standardised(alone)

GOLDEN = (STUDENT, TEACHER, HARD_LABELS)
FIRST = (STUDENT[:1], TEACHER[:1], HARD_LABELS[:1])
#: A student that is right and sure, and a teacher that isn't sure: in float32, and in float64.
SURE = (torch.tensor([[500.0, 0, 1, 2]]), TEACHER[:1].float(), HARD_LABELS[:1])
FAR = (torch.tensor([[5000.0, 0, 1, 2]]).double(), TEACHER[:1], HARD_LABELS[:1])
#: Sharp distributions over many classes, most of which no example finds likely.
MANY = (*random_logits(0, 8, 1000, 6.0), torch.arange(8))
TCKD, NCKD = DKD | {"other_weight": 0.0}, DKD | {"target_weight": 0.0, "other_weight": 1.0}

#: By project: our row, their formula, examples, temperature, their value, ours, and the length of
#: their gradient as a multiple of ours.
DIFFERENCES: dict[str, tuple[Row, Formula, Examples, float, float, float, float]] = {
    "torchdistill, KDLoss with alpha 0": (KD, alone, GOLDEN, 4.0, 0.057162, 0.914598, 1 / 16),
    "torchdistill, LogitStdKDLoss with alpha 0": (
        KD_OF_SCORES,
        alone_of_scores,
        GOLDEN,
        2.0,
        0.032724,
        0.130895,
        1 / 4,
    ),
    "torchdistill, reduction mean": (KD, kd_by_classes, GOLDEN, 4.0, 0.228650, 0.914598, 1 / 4),
    "torchdistill, DISTLoss of one example": (DIST, dist_of_bounded_norms, FIRST, 4.0, 8.158288, 0.158296, 1.0),
    "torchdistill, DISTLoss of unlikely classes": (
        DIST,
        dist_of_bounded_norms,
        MANY,
        1.0,
        2.496464,
        2.495359,
        1.042640,
    ),
    "mdistiller, DKD of a sure student": (TCKD, tckd, SURE, 4.0, math.inf, 1030.586, math.nan),
    "mdistiller, DKD of a label far ahead": (NCKD, nckd_of_lowered_labels, FAR, 4.0, 3978.443, 0.352420, 9.690056),
    "cls_KD, NKD before 2023-10": (NKD, nkd_of_all_classes, GOLDEN, 1.0, 1.643390, 1.546962, 1.459845),
    "cls_KD, KD": (KD, kd_with_entropy, GOLDEN, 4.0, 20.996548, 0.914598, 1.0),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_what_others_compute_differs_by_a_known_number(name: str) -> None:
    """Shows what to expect where figures of other projects are compared with ours.

    1. torchdistill's KDLoss and LogitStdKDLoss without a hard loss (`alpha` 0) leave out
       temperature^2, and `beta` with it: at temperature 4 they are a sixteenth. With
       `reduction: mean` they divide by the number of classes, too.
    2. torchdistill's DISTLoss gives a batch of one a constant, gamma * temperature^2, for
       correlations that it does not have. It keeps each norm above 1e-8, where the authors of DIST
       and we add 1e-8 to the product of two: classes that no example of a batch finds likely then
       count with their whole correlation.
    3. mdistiller's DKD takes the logarithm of sums of a softmax, which are 0 in float32 where the
       student is sure by 104 times the temperature: infinite loss, no gradient. It takes the hard
       label out of the others by 1000 of its logit, which is too little for one that is further
       ahead.
    4. cls_KD, by the authors of NKD, left the hard label among the others until 2023-10 (its issue
       16). Its KD is a cross-entropy: the teacher's entropy more, with the same gradient.
    """
    row, formula, examples, temperature, *expected = DIFFERENCES[name]
    theirs, their_gradient = with_gradient(formula, examples, temperature)
    value, gradient = with_gradient(ours(row), examples, temperature)
    assert value.isfinite()
    assert gradient.isfinite().all()
    found = [theirs.item(), value.item(), (their_gradient.norm() / gradient.norm()).item()]
    assert found == pytest.approx(expected, rel=1e-4, nan_ok=True)
