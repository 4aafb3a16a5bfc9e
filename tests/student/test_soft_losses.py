"""The other losses of soft targets: golden values, what they have in common, what each is."""

import doctest
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from logits import HARD_LABELS, STUDENT, TEACHER, random_logits
from test_kd import distil
from torch.nn.functional import log_softmax

from pipeline.student import losses
from pipeline.student.losses.dist import dist
from pipeline.student.losses.dkd import decoupled_knowledge_distillation
from pipeline.student.losses.mse import centred_mse
from pipeline.student.losses.nkd import normalised_knowledge_distillation
from pipeline.student.losses.standardise import standardise

FILES = sorted(path.stem for path in Path(losses.__path__[0]).glob("[!_]*.py"))
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]


def dkd(
    student: torch.Tensor,
    teacher: torch.Tensor,
    labels: torch.Tensor,
    temperature: float,
    target_weight: float = 1.0,
    other_weight: float = 8.0,
) -> torch.Tensor:
    return decoupled_knowledge_distillation(
        student,
        log_softmax(teacher / temperature, dim=1),
        labels,
        temperature=temperature,
        target_weight=target_weight,
        other_weight=other_weight,
    )


def nkd(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, temperature: float, gamma: float = 1.5
) -> torch.Tensor:
    soft_targets = log_softmax(teacher / temperature, dim=1)
    return normalised_knowledge_distillation(student, soft_targets, labels, temperature=temperature, gamma=gamma)


def correlation(
    student: torch.Tensor,
    teacher: torch.Tensor,
    labels: torch.Tensor,
    temperature: float,
    inter: float = 1.0,
    intra: float = 1.0,
) -> torch.Tensor:
    soft_targets = log_softmax(teacher / temperature, dim=1)
    return dist(student, soft_targets, temperature=temperature, inter_class_weight=inter, intra_class_weight=intra)


def mse(student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    return centred_mse(student, log_softmax(teacher / temperature, dim=1), temperature=temperature)


def standardised(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, temperature: float
) -> torch.Tensor:
    return distil(standardise(student), standardise(teacher), temperature)


LOSSES: dict[str, Loss] = {"dkd": dkd, "nkd": nkd, "dist": correlation, "mse": mse, "standardised": standardised}
each_loss = pytest.mark.parametrize("name", LOSSES)


@pytest.mark.parametrize("name", FILES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    module = importlib.import_module(f"pipeline.student.losses.{name}")
    found = doctest.testmod(module)
    assert found.failed == 0
    assert found.attempted or name == "base"


@pytest.mark.parametrize(
    ("name", "temperature", "settings", "golden"),
    [
        ("dkd", 4.0, (1.0, 8.0), 3.548485665),
        ("dkd", 4.0, (1.0, 0.0), 0.701192482),
        ("dkd", 4.0, (0.0, 1.0), 0.355911648),
        ("dist", 1.0, (), 0.696912603),
        ("dist", 4.0, (), 5.067217313),
        ("nkd", 1.0, (1.5,), 1.546961631),
        ("standardised", 2.0, (), 0.130894689),
    ],
)
def test_losses_have_their_golden_values(
    name: str, temperature: float, settings: tuple[float, ...], golden: float
) -> None:
    loss = LOSSES[name](STUDENT, TEACHER, HARD_LABELS, temperature, *settings)
    assert loss.mean().item() == pytest.approx(golden, abs=1e-8)


def test_the_mean_squared_error_is_the_golden_one_less_that_of_the_means() -> None:
    # 1.905 without centring; of each row, the square of the mean difference goes.
    offsets = (STUDENT - TEACHER).mean(dim=1)
    expected = 1.905 - offsets.square().mean().item()
    for temperature in (1.0, 3.0):
        assert mse(STUDENT, TEACHER, HARD_LABELS, temperature).mean().item() == pytest.approx(expected, abs=1e-12)


# What they have in common.


@each_loss
@pytest.mark.parametrize("classes", [2, 3, 30])
@pytest.mark.parametrize("shift", [-300.0, 0.1, 1000.0])
def test_a_shift_of_all_logits_changes_nothing(name: str, classes: int, shift: float) -> None:
    student, teacher = random_logits(classes, 4, classes, 3)
    labels = torch.arange(4) % classes
    expected = LOSSES[name](student, teacher, labels, 2.0)
    for moved in ((student + shift, teacher), (student, teacher + shift)):
        torch.testing.assert_close(LOSSES[name](*moved, labels, 2.0), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "nkd"])
def test_a_student_that_is_its_teacher_has_no_loss(name: str) -> None:
    student = TEACHER.clone().requires_grad_()
    loss = LOSSES[name](student, TEACHER, HARD_LABELS, 4.0)
    loss.sum().backward()
    assert student.grad is not None
    # The 1e-8 that keeps a correlation finite takes so much of it.
    assert loss.abs().max() < (1e-4 if name == "dist" else 1e-12)
    assert student.grad.abs().max() < (1e-4 if name == "dist" else 1e-12)


def test_the_normalised_loss_is_least_over_other_classes_where_the_student_is_the_teacher() -> None:
    student = TEACHER.clone().requires_grad_()
    target = nkd(student, TEACHER, HARD_LABELS, 3.0, gamma=0.0)
    (gradient,) = torch.autograd.grad((nkd(student, TEACHER, HARD_LABELS, 3.0) - target).sum(), student)
    assert gradient.abs().max() < 1e-12
    assert (target > 0).all()


@each_loss
def test_teacher_and_student_are_not_interchangeable(name: str) -> None:
    there = LOSSES[name](STUDENT, TEACHER, HARD_LABELS, 0.5)
    back = LOSSES[name](TEACHER, STUDENT, HARD_LABELS, 0.5)
    if name in {"dist", "mse"}:  # which are of pairs
        torch.testing.assert_close(there, back)
    else:
        assert (there - back).abs().max() > 0.01


@each_loss
@pytest.mark.parametrize("classes", [2, 6])
@pytest.mark.parametrize("gap", [100.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_saturated_logits_give_finite_losses_and_gradients(
    name: str, classes: int, gap: float, dtype: torch.dtype, temperature: float
) -> None:
    # Right and sure, wrong and sure, sure against unsure, and both without any opinion.
    student, teacher = torch.zeros(2, 5, classes, dtype=dtype)
    student[[0, 1, 2], [0, 1, 0]] = gap
    teacher[[0, 1, 3], [0, 0, 1]] = gap
    student.requires_grad_()
    loss = LOSSES[name](student, teacher, torch.tensor([0, 0, 1, 1, 0]), temperature)
    loss.sum().backward()
    assert student.grad is not None
    assert torch.isfinite(loss).all()
    assert torch.isfinite(student.grad).all()


@each_loss
def test_a_batch_of_one_has_its_loss(name: str) -> None:
    student = STUDENT[:1].clone().requires_grad_()
    loss = LOSSES[name](student, TEACHER[:1], HARD_LABELS[:1], 2.0)
    loss.sum().backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    whole = LOSSES[name](STUDENT, TEACHER, HARD_LABELS, 2.0)
    if name == "dist":  # has no correlation over examples
        whole = correlation(STUDENT, TEACHER, HARD_LABELS, 2.0, intra=0.0)
    torch.testing.assert_close(loss.detach(), whole[:1])


@each_loss
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_gradient_is_that_of_finite_differences(name: str, temperature: float) -> None:
    def loss(logits: torch.Tensor) -> torch.Tensor:
        return LOSSES[name](logits, TEACHER, HARD_LABELS, temperature)

    assert torch.autograd.gradcheck(loss, (STUDENT.clone().requires_grad_(),), eps=1e-6, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["dkd", "dist", "mse"])
def test_the_gradient_keeps_its_size_when_the_temperature_grows(name: str) -> None:
    # It tends to a limit; without temperature^2 it would shrink to a hundredth from 30 to 300, with
    # T it would do to a tenth.
    norms = []
    for temperature in (30.0, 300.0):
        student = STUDENT.clone().requires_grad_()
        loss = LOSSES[name](student, TEACHER, HARD_LABELS, temperature)
        loss.sum().backward()
        assert student.grad is not None
        norms.append(student.grad.norm().item())
    # A correlation does not shrink when probabilities come closer: it grows with the square.
    assert norms[1] / norms[0] == pytest.approx(100.0 if name == "dist" else 1.0, rel=0.15)


# What each is.


@pytest.mark.parametrize("classes", [2, 5, 40])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_is_its_decoupled_parts_weighted_by_what_the_teacher_leaves_to_others(
    classes: int, temperature: float
) -> None:
    student, teacher = random_logits(3, 6, classes, 3)
    labels = torch.arange(6) % classes
    target = dkd(student, teacher, labels, temperature, 1.0, 0.0)
    other = dkd(student, teacher, labels, temperature, 0.0, 1.0)
    left = 1 - torch.softmax(teacher / temperature, dim=1)[torch.arange(6), labels]
    torch.testing.assert_close(target + left * other, distil(student, teacher, temperature), rtol=1e-9, atol=1e-11)


def test_two_classes_have_nothing_among_the_others() -> None:
    student, teacher = random_logits(0, 4, 2, 3)
    labels = torch.tensor([0, 1, 1, 0])
    assert dkd(student, teacher, labels, 4.0, 0.0, 1.0).abs().max() == 0
    torch.testing.assert_close(dkd(student, teacher, labels, 4.0), distil(student, teacher, 4.0))
    torch.testing.assert_close(
        nkd(student, teacher, labels, 1.0, gamma=9.0), nkd(student, teacher, labels, 1.0, gamma=0.0)
    )


def test_a_label_that_the_teacher_rules_out_still_teaches_the_others() -> None:
    # p_t of the hard label underflows to 0 in every float format, and 1 minus it is 1.
    teacher = torch.tensor([[-2000.0, 2, 1, 0]], dtype=torch.float64)
    loss = dkd(STUDENT[:1], teacher, torch.tensor([0]), 1.0, 0.0, 1.0)
    expected = distil(STUDENT[:1, 1:], teacher[:, 1:], 1.0)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_the_normalised_loss_finds_the_teacher_at_temperature_1_again(temperature: float) -> None:
    found = nkd(STUDENT, TEACHER, HARD_LABELS, temperature, gamma=0.0)
    torch.testing.assert_close(found, nkd(STUDENT, TEACHER, HARD_LABELS, 1.0, gamma=0.0), rtol=1e-10, atol=1e-12)


def test_correlation_is_blind_to_scale_and_shift_of_probabilities() -> None:
    # A student that says 0.2 + 0.2 p of each class at its teacher's p (4 classes) has the teacher's
    # correlations.
    student = (0.2 + 0.2 * torch.softmax(TEACHER, dim=1)).log()
    assert correlation(student, TEACHER, HARD_LABELS, 1.0).abs().max() < 1e-4
    opposite = (0.3 - 0.2 * torch.softmax(TEACHER, dim=1)).log()
    torch.testing.assert_close(
        correlation(opposite, TEACHER, HARD_LABELS, 1.0), torch.full((3,), 4.0).double(), atol=1e-4, rtol=0
    )


def test_what_is_constant_has_no_correlation_and_no_gradient() -> None:
    student = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    loss = correlation(student, TEACHER, HARD_LABELS, 1.0)
    loss.sum().backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    torch.testing.assert_close(loss.detach(), torch.full((3,), 2.0).double())


def test_correlation_of_the_batch_is_a_loss_of_all_its_examples() -> None:
    intra = correlation(STUDENT, TEACHER, HARD_LABELS, 1.0, inter=0.0)
    assert (intra == intra[0]).all()
    assert (correlation(STUDENT[:2], TEACHER[:2], HARD_LABELS[:2], 1.0, inter=0.0) - intra[0]).abs().max() > 1e-3


def test_distillation_tends_to_half_the_mean_squared_error() -> None:
    found = distil(STUDENT, TEACHER, 1e4)
    torch.testing.assert_close(found, mse(STUDENT, TEACHER, HARD_LABELS, 1.0) / 2, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_standard_scores_forget_shift_and_scale(temperature: float) -> None:
    scores = standardise(TEACHER)
    torch.testing.assert_close(scores.mean(dim=1), torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(scores.std(dim=1), torch.ones(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(standardise(log_softmax(TEACHER, dim=1)), scores, atol=1e-14, rtol=0)
    log_probs = log_softmax(TEACHER / temperature, dim=1)
    torch.testing.assert_close(standardise(temperature * log_probs), scores, atol=1e-14, rtol=1e-13)
    torch.testing.assert_close(standardise(7 * TEACHER - 3), scores, atol=1e-6, rtol=0)


def test_a_constant_row_has_standard_scores_of_0_and_a_finite_gradient() -> None:
    row = torch.full((1, 4), 3.0, requires_grad=True)
    scores = standardise(row)
    scores.square().sum().backward()
    assert (scores == 0).all()
    assert row.grad is not None
    assert torch.isfinite(row.grad).all()
