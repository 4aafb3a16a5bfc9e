"""Knowledge distillation: golden values, numpy twins, and the known faults of distillation code."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from logits import HARD_LABELS, STUDENT, TEACHER, random_logits
from torch.nn.functional import log_softmax, softmax

from pipeline.labels.encodings import LabelSpace, build_encoding
from pipeline.labels.targets import SparseTargets
from pipeline.signals.losses import cross_entropy, kl_divergence_with_log_targets
from pipeline.student.losses.kd import kl_divergence_with_sparse_targets, knowledge_distillation

PROPERTY = settings(max_examples=40, deadline=None, database=None)

NOTHING = -torch.inf


def distil(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    return knowledge_distillation(student, log_softmax(teacher / temperature, dim=1), temperature=temperature)


@pytest.mark.parametrize(("temperature", "golden"), [(1.0, 0.492417176), (2.0, 0.803432224), (4.0, 0.914598113)])
def test_distillation_has_its_golden_values(temperature: float, golden: float) -> None:
    assert distil(STUDENT, TEACHER, temperature).mean().item() == pytest.approx(golden, abs=1e-9)


@pytest.mark.parametrize("temperature", [2.0, 4.0])
@pytest.mark.parametrize(
    "shipped_elsewhere",
    [
        pytest.param(lambda s, p, t: kl_div(log_softmax(s / t, dim=1), p).sum(1), id="temperature^2 missing"),
        pytest.param(lambda s, p, t: t**2 * kl_div(log_softmax(s / t, dim=1), p).mean(1), id="mean over classes"),
        pytest.param(lambda s, p, t: t**2 * kl_div(softmax(s / t, dim=1), p).sum(1), id="probabilities for logs"),
        pytest.param(lambda s, p, t: t**2 * kl_div(p.log(), softmax(s / t, dim=1)).sum(1), id="sides swapped"),
        pytest.param(
            lambda s, p, t: t**2 * kl_div(log_softmax(s / t, dim=1), softmax(p, dim=1)).sum(1), id="softmax twice"
        ),
        pytest.param(lambda s, p, t: t**2 * kl_div(log_softmax(s, dim=1), p).sum(1), id="teacher tempered alone"),
    ],
)
def test_distillation_is_none_of_the_bugs_that_others_shipped(
    temperature: float, shipped_elsewhere: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
) -> None:
    wrong = shipped_elsewhere(STUDENT, softmax(TEACHER / temperature, dim=1), temperature)
    assert (distil(STUDENT, TEACHER, temperature) - wrong).abs().max() > 0.02


def kl_div(log_student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.kl_div(log_student, teacher, reduction="none")


def test_sparse_targets_are_normalised_over_the_set_that_the_student_is() -> None:
    # A student that is its teacher loses nothing; the kept classes renormalised, against all of the
    # student's, would.
    kept = torch.tensor([[0, 2]] * 3)
    teacher = TEACHER / 2
    loss = knowledge_distillation(TEACHER, few_classes(teacher, kept), temperature=2.0)
    assert loss.abs().max() < 1e-12
    other_set = kl_divergence_with_sparse_targets(few_classes(teacher, kept, with_rest=False), teacher)
    assert other_set.min() > 0.05


@PROPERTY
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 6),
    classes=st.integers(2, 40),
    temperature=st.floats(0.5, 20),
)
def test_distillation_equals_its_definition_written_in_numpy(
    seed: int, batch: int, classes: int, temperature: float
) -> None:
    student, teacher = random_logits(seed, batch, classes, 3)

    def probs(logits: torch.Tensor, at: float) -> np.ndarray:
        powers = np.exp(logits.numpy() / at)
        return powers / powers.sum(axis=1, keepdims=True)

    p_teacher, p_student = probs(teacher, temperature), probs(student, temperature)
    expected = temperature**2 * (p_teacher * np.log(p_teacher / p_student)).sum(axis=1)
    np.testing.assert_allclose(distil(student, teacher, temperature), expected, rtol=1e-9, atol=1e-11)


def test_the_gradient_keeps_its_size_when_the_temperature_grows() -> None:
    # For a large temperature it tends to the difference of the centred logits, over the number of
    # classes.
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


# Targets of a few classes and, in one bucket, all the others.


def few_classes(teacher: torch.Tensor, classes: torch.Tensor, *, with_rest: bool = True) -> SparseTargets:
    """Returns a teacher's soft targets with some classes kept.

    Without a rest the kept classes have all of the mass.
    """
    log_probs = log_softmax(teacher, dim=1)
    if not with_rest:
        return SparseTargets(classes, log_softmax(log_probs.gather(1, classes), dim=1), None)
    log_rest = log_probs.scatter(1, classes, -torch.inf).logsumexp(dim=1)
    return SparseTargets(classes, log_probs.gather(1, classes), log_rest)


def any_classes(seed: int, batch: int, classes: int, kept: int) -> torch.Tensor:
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(classes), (batch, 1)), axis=1)
    return torch.from_numpy(order[:, :kept].copy())


def by_hand(targets: SparseTargets, student: torch.Tensor) -> np.ndarray:
    """Returns the KL over the kept classes and one bucket, in float64, class by class."""
    values = []
    for label, logits in enumerate(student.double().numpy()):
        p_student = np.exp(logits - logits.max())
        p_student /= p_student.sum()
        value, kept = 0.0, []
        for number, log_prob in zip(targets.classes[label].tolist(), targets.log_probs[label].tolist(), strict=True):
            if log_prob > -np.inf:
                kept.append(number)
                value += np.exp(log_prob) * (log_prob - np.log(p_student[number]))
        log_rest = -np.inf if targets.log_rest is None else targets.log_rest[label].item()
        if log_rest > -np.inf:
            value += np.exp(log_rest) * (log_rest - np.log(np.delete(p_student, kept).sum()))
        values.append(value)
    return np.array(values)


def padded(targets: SparseTargets, numbers: torch.Tensor) -> SparseTargets:
    """Returns targets with classes of probability 0 in the first columns and in the last."""
    nothing = torch.full(numbers.shape, NOTHING, dtype=targets.log_probs.dtype)
    return SparseTargets(
        torch.cat([numbers, targets.classes, numbers.flip(1)], dim=1),
        torch.cat([nothing, targets.log_probs, nothing], dim=1),
        targets.log_rest,
    )


@PROPERTY
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 5),
    sizes=st.integers(2, 30).flatmap(lambda classes: st.tuples(st.just(classes), st.integers(1, classes - 1))),
    temperature=st.floats(0.5, 20),
    with_rest=st.booleans(),
)
def test_a_sparse_divergence_is_that_of_both_sides_summed_up(
    seed: int, batch: int, sizes: tuple[int, int], temperature: float, with_rest: bool
) -> None:
    student, teacher = random_logits(seed, batch, sizes[0], 3)
    targets = few_classes(teacher / temperature, any_classes(seed, batch, *sizes), with_rest=with_rest)
    found = kl_divergence_with_sparse_targets(targets, student)
    np.testing.assert_allclose(found, by_hand(targets, student), rtol=1e-9, atol=1e-11)
    found = knowledge_distillation(student, targets, temperature=temperature)
    expected = temperature**2 * by_hand(targets, student / temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@PROPERTY
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 40), temperature=st.sampled_from([1.0, 2.0, 5.0]))
def test_with_all_classes_but_one_it_is_the_dense_divergence(
    dtype: torch.dtype, tolerance: float, seed: int, classes: int, temperature: float
) -> None:
    student, teacher = (logits.to(dtype) for logits in random_logits(seed, 4, classes, 2))
    losses, gradients = [], []
    for soft_targets in (
        few_classes(teacher / temperature, any_classes(seed, 4, classes, classes - 1)),
        log_softmax(teacher / temperature, dim=1),
    ):
        logits = student.clone().requires_grad_()
        losses.append(knowledge_distillation(logits, soft_targets, temperature=temperature))
        losses[-1].sum().backward()
        gradients.append(logits.grad)
    scale = temperature**2 * (1 + student.abs().max().item() + teacher.abs().max().item())
    torch.testing.assert_close(losses[0], losses[1], rtol=tolerance, atol=tolerance * scale)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("with_rest", [True, False])
@pytest.mark.parametrize("kept", [1, 2, 3])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_sparse_gradient_is_that_of_finite_differences(with_rest: bool, kept: int, temperature: float) -> None:
    targets = few_classes(TEACHER, any_classes(kept, 3, 4, kept), with_rest=with_rest)
    for given_targets in (targets, padded(targets, any_classes(9, 3, 4, 2))):

        def loss(logits: torch.Tensor, given_targets: SparseTargets = given_targets) -> torch.Tensor:
            return knowledge_distillation(logits, given_targets, temperature=temperature)

        student = STUDENT.clone().requires_grad_()
        assert torch.autograd.gradcheck(loss, (student,), eps=1e-6, atol=1e-7, rtol=1e-5)
        (exact,) = torch.autograd.grad(loss(student).sum(), student)
        assert exact.sum(dim=1).abs().max() < 1e-12  # a shift changes nothing
        single = STUDENT.to(torch.float32, copy=True).requires_grad_()
        log_rest = None if given_targets.log_rest is None else given_targets.log_rest.float()
        in_float32 = SparseTargets(given_targets.classes, given_targets.log_probs.float(), log_rest)
        (found,) = torch.autograd.grad(loss(single, in_float32).sum(), single)
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_rest", [True, False])
@pytest.mark.parametrize("gap", [1e3, 1e5])
def test_a_saturated_student_gives_finite_sparse_losses_and_gradients(
    dtype: torch.dtype, with_rest: bool, gap: float
) -> None:
    # Sure of a kept class, sure of another one, sure that it is none of the kept ones; and a
    # teacher as sure.
    student = torch.tensor([[gap, 0, 0, 0], [0, gap, 0, 0], [0, 0, gap, 0], [0, 0, 0, gap]], dtype=dtype)
    unsure = torch.tensor([[2.0, 1, 0, 0]] * 4, dtype=dtype)
    for teacher in (unsure, unsure * gap, student):
        targets = few_classes(teacher, torch.tensor([[0, 1]] * 4), with_rest=with_rest)
        logits = student.clone().requires_grad_()
        loss = knowledge_distillation(logits, targets, temperature=1.0)
        loss.sum().backward()
        assert torch.isfinite(loss).all()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()
        assert logits.grad.abs().max() <= 1 + 1e-6
    # The last teacher is the student: only without a rest are the kept classes of the last two not
    # what it believes in.
    wanted = torch.zeros(4, dtype=dtype)
    if not with_rest:
        wanted[2:] = gap - np.log(2)
    torch.testing.assert_close(loss.detach(), wanted, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("number", [0, 1, 3, 4, 5, -1, 10**6])
@pytest.mark.parametrize("with_rest", [True, False])
def test_padding_counts_nothing_whatever_class_it_names(number: int, with_rest: bool) -> None:
    # Kept (0, 4), in the bucket (1, 3, 5) or no class at all.
    student, teacher = random_logits(1, 5, 6, 3)
    targets = few_classes(teacher, torch.tensor([[4, 0]] * 5), with_rest=with_rest)
    numbers = torch.full((5, 3), number)
    results = []
    for given_targets in (targets, padded(targets, numbers)):
        logits = student.clone().requires_grad_()
        loss = knowledge_distillation(logits, given_targets, temperature=2.0)
        loss.sum().backward()
        results.append((loss.detach(), logits.grad))
    assert torch.isfinite(results[1][1]).all()
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-12)


def test_targets_that_are_all_padding_and_rest_teach_nothing() -> None:
    student = STUDENT.clone().requires_grad_()
    targets = SparseTargets(torch.tensor([[0, 1]] * 3), torch.full((3, 2), NOTHING).double(), torch.zeros(3).double())
    loss = kl_divergence_with_sparse_targets(targets, student)
    loss.sum().backward()
    assert student.grad is not None
    assert loss.abs().max() < 1e-12
    assert student.grad.abs().max() < 1e-12


@pytest.mark.parametrize("kept", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rest_without_mass_is_as_no_rest(kept: int, dtype: torch.dtype) -> None:
    # With all 4 classes kept the student's bucket is empty too.
    bare = few_classes(TEACHER.to(dtype), any_classes(0, 3, 4, kept), with_rest=False)
    results = []
    for targets in (bare, SparseTargets(bare.classes, bare.log_probs, torch.full((3,), NOTHING, dtype=dtype))):
        logits = STUDENT.to(dtype, copy=True).requires_grad_()
        loss = kl_divergence_with_sparse_targets(targets, logits)
        loss.sum().backward()
        assert torch.isfinite(loss).all()
        assert torch.isfinite(logits.grad).all()
        results.append((loss.detach(), logits.grad))
    torch.testing.assert_close(results[1], results[0])
    if kept == 4:
        dense = kl_divergence_with_log_targets(log_softmax(TEACHER.to(dtype), dim=1), STUDENT.to(dtype))
        torch.testing.assert_close(results[0][0], dense)


@PROPERTY
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(3, 20), scale=st.floats(0.1, 30))
def test_a_bucket_hides_part_of_the_divergence_less_of_it_with_every_class_kept(
    seed: int, classes: int, scale: float
) -> None:
    student, teacher = random_logits(seed, 4, classes, scale)
    order = any_classes(seed, 4, classes, classes - 1)
    found = [
        kl_divergence_with_sparse_targets(few_classes(teacher, order[:, :kept]), student) for kept in range(1, classes)
    ]
    found.append(kl_divergence_with_log_targets(log_softmax(teacher, dim=1), student))
    assert (found[0] >= -1e-12).all()
    assert all((after >= before - 1e-9 * (1 + before.abs())).all() for before, after in pairwise(found))


@PROPERTY
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 20), shift=st.floats(-500, 500))
def test_a_shift_of_all_logits_changes_no_sparse_loss(seed: int, classes: int, shift: float) -> None:
    student, teacher = random_logits(seed, 3, classes, 3)
    targets = few_classes(teacher / 2, any_classes(seed, 3, classes, max(1, classes // 2)))
    found = [knowledge_distillation(logits, targets, temperature=2) for logits in (student, student + shift)]
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)
    in_float32 = kl_divergence_with_sparse_targets(targets, (student.float() + shift))
    torch.testing.assert_close(in_float32, kl_divergence_with_sparse_targets(targets, student), rtol=1e-3, atol=1e-3)


def test_a_student_that_is_its_teacher_has_no_sparse_loss_and_no_gradient() -> None:
    student = TEACHER.clone().requires_grad_()
    loss = knowledge_distillation(student, few_classes(TEACHER / 4, torch.tensor([[0, 2]] * 3)), temperature=4)
    loss.sum().backward()
    assert student.grad is not None
    assert loss.abs().max() < 1e-14
    assert student.grad.abs().max() < 1e-14


@pytest.mark.parametrize("with_rest", [True, False])
def test_a_sparse_value_belongs_to_its_example_alone(with_rest: bool) -> None:
    targets = few_classes(TEACHER, torch.tensor([[0, 1], [3, 1], [2, 0]]), with_rest=with_rest)
    whole = kl_divergence_with_sparse_targets(targets, STUDENT)
    for row in range(3):
        one = slice(row, row + 1)
        torch.testing.assert_close(kl_divergence_with_sparse_targets(targets[one], STUDENT[one]), whole[one])


def test_two_classes_of_which_one_is_kept_have_the_dense_loss() -> None:
    student, teacher = STUDENT[:, :2], TEACHER[:, :2]
    for kept in (0, 1):
        targets = few_classes(teacher / 3, torch.full((3, 1), kept))
        torch.testing.assert_close(
            knowledge_distillation(student, targets, temperature=3), distil(student, teacher, 3), rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("tail", ["rest", "prior", "uniform"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_stored_few_classes_come_to_the_dense_loss_as_they_grow_more(tail: str, temperature: float) -> None:
    student, teacher = (logits.float() for logits in random_logits(0, 200, 8, 2))
    dense, space = distil(student, teacher, temperature), LabelSpace(8, 1.0, (1.0, 2.0))
    log_probs, ids = log_softmax(teacher, dim=1), np.arange(200, dtype=np.uint64)
    off = []
    for k in (1, 3, 5, 7):
        row = {"kind": "topk", "k": k, "levels": 65535, "range_nats": 40.0, "tail": tail, "tail_classes": 256}
        encoding = build_encoding(row, "test")
        codec = encoding.codec(space, encoding.learn(log_probs, space))
        targets = codec.targets(codec.encode(log_probs, ids, 0), temperature)
        assert isinstance(targets, SparseTargets) == (tail == "rest")
        off.append((knowledge_distillation(student, targets, temperature=temperature) - dense).abs().mean().item())
    assert all(after < before / 1.5 for before, after in pairwise(off[:-1]))
    assert off[-1] < 1e-3
