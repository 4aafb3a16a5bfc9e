"""Losses: golden values, numpy twins, and the faults that distillation code is known for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import log_softmax

from pipeline.losses import cross_entropy, kl_divergence_with_log_targets, knowledge_distillation

PROPERTY = settings(max_examples=40, deadline=None, database=None)

STUDENT = torch.tensor([[2, -1, 0.5, 0], [0.3, 1.2, -0.7, 2.2], [-1.5, 0, 3, 1]], dtype=torch.float64)
TEACHER = torch.tensor([[4, -2, 1, 0.5], [1, 0, -1, 5], [0, -0.5, 2, 3]], dtype=torch.float64)
HARD_LABELS = torch.tensor([0, 3, 2])


def distil(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    return knowledge_distillation(student, log_softmax(teacher / temperature, dim=1), temperature=temperature)


def random_logits(seed: int, batch: int, classes: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(0, scale, (2, batch, classes))
    return torch.from_numpy(student), torch.from_numpy(teacher)


def test_cross_entropy_has_its_golden_value() -> None:
    assert cross_entropy(STUDENT, HARD_LABELS).mean().item() == pytest.approx(0.324724700, abs=1e-9)


@pytest.mark.parametrize(("temperature", "golden"), [(1.0, 0.492417176), (2.0, 0.803432224), (4.0, 0.914598113)])
def test_distillation_has_its_golden_values(temperature: float, golden: float) -> None:
    assert distil(STUDENT, TEACHER, temperature).mean().item() == pytest.approx(golden, abs=1e-9)


@PROPERTY
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 6),
    classes=st.integers(2, 40),
    temperature=st.floats(0.5, 20),
    smoothing=st.floats(0, 0.5),
)
def test_losses_equal_their_definition_written_in_numpy(
    seed: int, batch: int, classes: int, temperature: float, smoothing: float
) -> None:
    student, teacher = random_logits(seed, batch, classes, 3)
    labels = torch.arange(batch) % classes

    def probs(logits: torch.Tensor, at: float) -> np.ndarray:
        powers = np.exp(logits.numpy() / at)
        return powers / powers.sum(axis=1, keepdims=True)

    p_teacher, p_student = probs(teacher, temperature), probs(student, temperature)
    expected = temperature**2 * (p_teacher * np.log(p_teacher / p_student)).sum(axis=1)
    np.testing.assert_allclose(distil(student, teacher, temperature), expected, rtol=1e-9, atol=1e-11)

    targets = np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    expected = -(targets * np.log(probs(student, 1))).sum(axis=1)
    np.testing.assert_allclose(cross_entropy(student, labels, label_smoothing=smoothing), expected, rtol=1e-9)


def test_the_gradient_keeps_its_size_when_the_temperature_grows() -> None:
    # For a large temperature it tends to the difference of the centred logits, over the number of classes.
    difference = (STUDENT - STUDENT.mean(1, keepdim=True)) - (TEACHER - TEACHER.mean(1, keepdim=True))
    limit = difference / STUDENT.shape[1]
    for temperature in (30.0, 300.0, 3000.0):
        student = STUDENT.clone().requires_grad_()
        distil(student, TEACHER, temperature).sum().backward()
        assert student.grad is not None
        torch.testing.assert_close(student.grad, limit, rtol=3 / temperature, atol=3 / temperature)


@PROPERTY
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 20), shift=st.floats(-500, 500))
def test_a_shift_of_all_logits_changes_nothing(seed: int, classes: int, shift: float) -> None:
    student, teacher = random_logits(seed, 3, classes, 3)
    labels = torch.arange(3) % classes
    torch.testing.assert_close(distil(student + shift, teacher, 2), distil(student, teacher, 2), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(distil(student, teacher + shift, 2), distil(student, teacher, 2), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(cross_entropy(student + shift, labels), cross_entropy(student, labels))


def test_a_student_that_is_its_teacher_has_no_loss_and_no_gradient() -> None:
    student = TEACHER.clone().requires_grad_()
    loss = distil(student, TEACHER, 4)
    loss.sum().backward()
    assert student.grad is not None
    assert loss.abs().max() < 1e-14
    assert student.grad.abs().max() < 1e-14


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_logits_give_finite_losses_and_gradients(dtype: torch.dtype) -> None:
    # The gap of 2,000 nats makes probabilities underflow to 0 in every float format.
    student = torch.tensor([[1000, -1000, 0], [0, 1000, -1000]], dtype=dtype).requires_grad_()
    teacher = torch.tensor([[-1000, 1000, 0], [0, 1000, -1000]], dtype=dtype)
    loss = distil(student, teacher, 1) + cross_entropy(student, torch.tensor([1, 1]))
    loss.sum().backward()
    assert student.grad is not None
    torch.testing.assert_close(loss.detach(), torch.tensor([4000.0, 0.0], dtype=dtype))
    assert torch.isfinite(student.grad).all()


def test_a_value_belongs_to_its_example_alone() -> None:
    whole = distil(STUDENT, TEACHER, 2), cross_entropy(STUDENT, HARD_LABELS)
    for row in range(3):
        one = slice(row, row + 1)
        torch.testing.assert_close(distil(STUDENT[one], TEACHER[one], 2), whole[0][one])
        torch.testing.assert_close(cross_entropy(STUDENT[one], HARD_LABELS[one]), whole[1][one])


def test_teacher_and_student_are_not_interchangeable() -> None:
    there, back = distil(STUDENT, TEACHER, 1), distil(TEACHER, STUDENT, 1)
    assert ((there - back).abs() > 0.01).all()


def test_classes_that_neither_believes_in_do_not_dilute_the_divergence() -> None:
    nothing = torch.full((3, 96), -1e4, dtype=torch.float64)
    padded = distil(torch.cat([STUDENT, nothing], dim=1), torch.cat([TEACHER, nothing], dim=1), 2)
    torch.testing.assert_close(padded, distil(STUDENT, TEACHER, 2))


@PROPERTY
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 20), scale=st.floats(0.1, 30))
def test_a_divergence_is_never_negative(seed: int, classes: int, scale: float) -> None:
    student, teacher = random_logits(seed, 4, classes, scale)
    assert (kl_divergence_with_log_targets(log_softmax(teacher, dim=1), student) >= -1e-12).all()
