"""The objective: the losses of a batch, weighted; the labels that a loss can learn from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stores import FLOAT16, REST, SAMPLED, SPLIT, TOPK, UINT8, Row, make
from torch import nn
from torch.nn.functional import log_softmax

from pipeline.core.errors import ConfigError
from pipeline.labels.encodings import build_encoding
from pipeline.signals.losses import cross_entropy
from pipeline.student.batches import LabelledBatch
from pipeline.student.labelled_views import LabelledViews
from pipeline.student.losses import LOSSES, SoftLoss, build_loss
from pipeline.student.losses.dist import dist
from pipeline.student.losses.dkd import decoupled_knowledge_distillation
from pipeline.student.losses.kd import knowledge_distillation
from pipeline.student.losses.mse import centred_mse
from pipeline.student.losses.nkd import normalised_knowledge_distillation
from pipeline.student.losses.standardise import standardise
from pipeline.student.objective import Objective

CPU = torch.device("cpu")
KD: Row = {"kind": "kd", "standardize": False}
DKD: Row = {"kind": "dkd", "standardize": False, "target_weight": 1.0, "other_weight": 8.0, "warmup_epochs": 20}
DIST: Row = {"kind": "dist", "standardize": False, "inter_class_weight": 1.0, "intra_class_weight": 2.0}
NKD: Row = {"kind": "nkd", "standardize": False, "gamma": 1.5}
MSE: Row = {"kind": "mse", "standardize": False}
ROWS = {"kd": KD, "dkd": DKD | {"warmup_epochs": 1}, "dist": DIST, "nkd": NKD, "mse": MSE}
each_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def loss_of(row: Row = KD, **changes: Any) -> SoftLoss:
    return build_loss(row | changes, "params.yaml: students.x.loss")


class Fixed(nn.Module):
    """A network that predicts the same for any input; its logits are parameters."""

    def __init__(self, count: int, classes: int = 4, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.logits = nn.Parameter((2 * torch.randn(count, classes, generator=generator)).to(dtype))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(pixels)]


def batch_of(count: int = 8, classes: int = 4, temperature: float = 1.0, **changes: Any) -> LabelledBatch:
    teacher = 3 * torch.randn(count, classes, generator=torch.Generator().manual_seed(1))
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    soft_targets = log_softmax(teacher / temperature, dim=1)
    return replace(LabelledBatch(images, torch.arange(count) % classes, soft_targets=soft_targets), **changes)


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize(("hard_weight", "soft_weight"), [(0.1, 0.9), (1.0, 0.0), (0.0, 1.0), (2.0, 3.0)])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_objective_is_the_papers(
    temperature: float, hard_weight: float, soft_weight: float, label_smoothing: float
) -> None:
    batch, model = batch_of(temperature=temperature), Fixed(8)
    loss = Objective(hard_weight, soft_weight, temperature, label_smoothing, loss_of())(model, batch, CPU)

    assert isinstance(batch.soft_targets, torch.Tensor)
    student, target = model.logits.detach().numpy(), batch.soft_targets.double().exp().numpy()
    one_hot = np.eye(4)[batch.hard_labels.numpy()] * (1 - label_smoothing) + label_smoothing / 4
    hard = -(one_hot * np.log(softmax(student))).sum(axis=1).mean()
    guess = softmax(student / temperature)
    soft = (target * np.log(target / guess)).sum(axis=1).mean()
    expected = hard_weight * hard + soft_weight * temperature**2 * soft
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)

    loss.backward()
    assert model.logits.grad is not None
    gradient = hard_weight * (softmax(student) - one_hot) + soft_weight * temperature * (guess - target)
    np.testing.assert_allclose(model.logits.grad, gradient / 8, rtol=1e-4, atol=1e-6)


def test_hard_labels_alone_look_at_no_soft_ones() -> None:
    objective, model = Objective(1.0, 0.0, 4.0, 0.0, loss_of()), Fixed(8)
    assert torch.equal(objective(model, batch_of(), CPU), objective(model, batch_of(soft_targets=None), CPU))


def test_an_image_mixed_of_two_has_both_hard_labels_by_their_shares() -> None:
    labels, partners = torch.arange(8) % 4, (torch.arange(8) + 1) % 4
    shares, model = torch.linspace(0.5, 1, 8), Fixed(8)
    batch = batch_of(partner_labels=partners, own_shares=shares)
    found = Objective(1.0, 0.5, 1.0, 0.1, loss_of())(model, batch, CPU)
    log_probs = np.log(softmax(model.logits.detach().numpy()))
    values = []
    for row, (own, partner, share) in enumerate(zip(labels, partners, shares.double().numpy(), strict=True)):
        target = share * np.eye(4)[own] + (1 - share) * np.eye(4)[partner]
        values.append(-((0.9 * target + 0.025) * log_probs[row]).sum())
    soft = Objective(0.0, 0.5, 1.0, 0.1, loss_of())(model, batch, CPU).item()
    assert found.item() == pytest.approx(np.mean(values) + soft, rel=1e-6)
    whole = batch_of(partner_labels=partners, own_shares=torch.ones(8))
    unmixed = Objective(1.0, 0.5, 1.0, 0.1, loss_of())(model, batch_of(), CPU)
    assert Objective(1.0, 0.5, 1.0, 0.1, loss_of())(model, whole, CPU).item() == pytest.approx(unmixed.item())


@each_row
def test_a_row_is_the_function_that_it_names(row: Row) -> None:
    student, teacher = Fixed(6, 5).logits.detach(), batch_of(6, 5, 2.0).soft_targets
    assert isinstance(teacher, torch.Tensor)
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    teacher = teacher.double()
    by_kind = {
        "kd": lambda: knowledge_distillation(student, teacher, temperature=2.0),
        "dkd": lambda: decoupled_knowledge_distillation(
            student, teacher, labels, temperature=2.0, target_weight=1.0, other_weight=8.0
        ),
        "dist": lambda: dist(student, teacher, temperature=2.0, inter_class_weight=1.0, intra_class_weight=2.0),
        "nkd": lambda: normalised_knowledge_distillation(student, teacher, labels, temperature=2.0, gamma=1.5),
        "mse": lambda: centred_mse(student, teacher, temperature=2.0),
    }
    found = loss_of(row)(student, teacher, labels, temperature=2.0, epoch=0)
    assert torch.equal(found, by_kind[row["kind"]]())
    scores = log_softmax(standardise(2 * teacher) / 2, dim=1)
    expected = loss_of(row)(standardise(student), scores, labels, temperature=2.0, epoch=0)
    found = loss_of(row, standardize=True)(student, teacher, labels, temperature=2.0, epoch=0)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_standardised_logits_of_two_classes_teach_nothing_and_are_refused(num_classes: int) -> None:
    random = torch.Generator().manual_seed(0)
    loss, teacher = loss_of(KD, standardize=True), log_softmax(torch.randn(4, num_classes, generator=random), dim=1)
    student = torch.randn(4, num_classes, generator=random, requires_grad=True)
    loss(student, teacher, torch.zeros(4, dtype=torch.int64), temperature=1.0, epoch=0).mean().backward()
    assert student.grad is not None
    assert bool(student.grad.abs().max() < 1e-6) == (num_classes == 2)
    if num_classes == 2:
        with pytest.raises(ConfigError, match=r"x.loss.standardize: standardize: true, and 2 classes.*expected false"):
            loss.check_classes(num_classes, "x.loss")
    else:
        loss.check_classes(num_classes, "x.loss")


@each_row
def test_a_standardised_loss_does_not_ask_at_which_temperature_labels_were_read(row: Row) -> None:
    teacher = 3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    student, labels, loss = Fixed(6, 5).logits.detach(), torch.arange(6) % 5, loss_of(row, standardize=True)
    found = []
    for scale in (1.0, 5.0):  # of the teacher's logits: how sure it is
        targets = log_softmax(scale * teacher / 2, dim=1)
        found.append(loss(student, targets, labels, temperature=2.0, epoch=0))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)


def test_the_decoupled_loss_grows_over_its_first_epochs() -> None:
    objective, model = Objective(0.0, 1.0, 4.0, 0.0, loss_of(DKD)), Fixed(8)
    values = [objective(model, batch_of(epoch=epoch), CPU).item() for epoch in (0, 1, 9, 19, 20, 300)]
    np.testing.assert_allclose(np.array(values) / values[-1], [0.05, 0.1, 0.5, 1, 1, 1], rtol=1e-6)
    at_once = Objective(0.0, 1.0, 4.0, 0.0, loss_of(DKD).warmed_up())
    assert at_once(model, batch_of(epoch=0), CPU).item() == pytest.approx(values[-1])
    assert loss_of(KD).warmed_up() == loss_of(KD)


@each_row
@pytest.mark.parametrize("standardize", [False, True])
def test_under_autocast_losses_are_computed_in_float32(row: Row, standardize: bool) -> None:
    # Of logits that come in bfloat16, the loss is what float32 makes of these very numbers.
    torch.manual_seed(0)
    objective = Objective(0.5, 0.5, 4.0, 0.1, loss_of(row, standardize=standardize))
    model = nn.Sequential(Flat(), nn.Linear(4, 4))
    images = torch.randint(0, 256, (8, 1, 2, 2), dtype=torch.uint8)
    batch = batch_of(
        temperature=4.0, inputs=images, own_shares=torch.full((8,), 0.75), partner_labels=torch.arange(8) % 3
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(batch.inputs)
        loss = objective(model, batch, CPU)
    assert (logits.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    exact = objective(Said(logits.detach().double()), batch, CPU).item()
    assert loss.item() == pytest.approx(exact, rel=1e-4, abs=1e-5)


class Flat(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).float() / 255


class Said(nn.Module):
    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


# Which labels.


STORED = {"dense16": FLOAT16, "dense8": UINT8, "prior": TOPK, "uniform": TOPK | {"tail": "uniform"}}
FEW = {"rest": REST, "sampled": SAMPLED}
FITS = {
    "kd": {*STORED, *FEW},
    "dkd": {*STORED},
    "nkd": {*STORED},
    "dist": {"dense16", "dense8"},
    "mse": {"dense16", "dense8"},
}


@pytest.mark.parametrize("encoding", [*STORED, *FEW])
@pytest.mark.parametrize("kind", ROWS)
def test_a_loss_takes_labels_that_tell_it_enough_and_refuses_others_in_one_line(kind: str, encoding: str) -> None:
    detail = build_encoding((STORED | FEW)[encoding], "test").detail
    for standardize in (False, True):
        loss = loss_of(ROWS[kind], standardize=standardize)
        if encoding in (FITS["mse"] if standardize else FITS[kind]):
            loss.check_labels(detail, "store 'x'", "params.yaml: students.x.loss")
            continue
        with pytest.raises(ConfigError) as caught:
            loss.check_labels(detail, "store 'x'", "params.yaml: students.x.loss")
        line = str(caught.value)
        assert line.startswith(f"params.yaml: students.x.loss: kind {kind!r}")
        assert all(part in line for part in ("store 'x'", "expected a dense encoding", "`labels`")), line
        assert "\n" not in line


@pytest.mark.parametrize("kind", ROWS)
def test_only_losses_of_one_hard_label_refuse_mixed_views(kind: str) -> None:
    loss = loss_of(ROWS[kind])
    loss.check_views(False, "here")
    if kind in {"dkd", "nkd"}:
        with pytest.raises(ConfigError, match=f"here: kind {kind!r} needs one hard label"):
            loss.check_views(True, "here")
    else:
        loss.check_views(True, "here")


@pytest.mark.parametrize(
    ("kind", "name", "temperature"),
    [
        ("kd", "dense8", 2.0),
        ("kd", "prior", 2.0),
        ("kd", "rest", 1.0),
        ("kd", "rest", 4.0),
        ("kd", "sampled", 1.0),
        ("dkd", "dense16", 4.0),
        ("dkd", "prior", 2.0),
        ("nkd", "dense8", 1.0),
        ("nkd", "uniform", 2.0),
        ("dist", "dense8", 2.0),
        ("mse", "dense8", 1.0),
    ],
)
def test_a_linear_student_learns_from_every_kind_of_store_that_fits(
    tmp_path: Path, kind: str, name: str, temperature: float
) -> None:
    store = make(tmp_path / "x.zarr", (STORED | FEW)[name])
    loss = loss_of(ROWS[kind])
    loss.check_labels(store.encoding.detail, name, "test")
    views = LabelledViews(SPLIT, store, store.manifest.class_names, temperature)
    torch.manual_seed(0)
    student = nn.Sequential(Flat(), nn.Linear(144, 6))
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    objective = Objective(0.0, 1.0, temperature, 0.0, loss)
    least = 0.0 if kind != "nkd" else least_of(views, objective)
    losses = []
    for epoch in range(0, 40, store.manifest.num_views):  # always the same view
        total = 0.0
        for batch in views.batches(epoch, 0, batch_size=10, seed=0):
            value = objective(student, batch, CPU)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.item()
        losses.append(total - least)
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.7 * losses[0]


def least_of(views: LabelledViews, objective: Objective) -> float:
    """Returns about the loss of a student that equals its teacher, which is not 0."""
    total = 0.0
    for batch in views.batches(0, 0, batch_size=10, seed=0):
        assert isinstance(batch.soft_targets, torch.Tensor)
        total += objective(Said(objective.temperature * batch.soft_targets), batch, CPU).item()
    return total


# Rows.


@pytest.mark.parametrize("row", [KD, DKD, DIST, NKD, MSE], ids=lambda row: row["kind"])
def test_every_registered_kind_is_known_by_its_own_name(row: Row) -> None:
    assert {name: kind.kind for name, kind in LOSSES.items()} == {name: name for name in LOSSES}
    assert type(build_loss(row, "test")) is LOSSES[row["kind"]]
    assert build_loss(row, "test") == build_loss(dict(row), "elsewhere")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("kd", r"x\.loss: 'kd'; expected a map with `kind`, one of: kd, dkd, dist, nkd, mse"),
        ({"standardize": False}, "expected a map with `kind`"),
        (KD | {"kind": "dkt"}, r"x\.loss\.kind: 'dkt'.*did you mean 'dkd'"),
        ({"kind": "kd"}, r"x\.loss\.standardize: this key is missing"),
        (KD | {"standardize": "no"}, r"x\.loss\.standardize: 'no' \(str\)"),
        (KD | {"gamma": 1.0}, r"x\.loss\.gamma: unknown key"),
        (DKD | {"warmup_epochs": 0}, r"x\.loss\.warmup_epochs: 0.*greater than 0"),
        (DKD | {"warmup_epochs": 2.5}, r"x\.loss\.warmup_epochs: 2\.5"),
        (DKD | {"other_weight": -1.0}, r"x\.loss\.other_weight: -1\.0.*greater than or equal to 0"),
        (DKD | {"target_wieght": 1.0}, r"x\.loss\.target_wieght: unknown key.*did you mean 'target_weight'"),
        (DIST | {"inter_class_weight": float("nan")}, r"x\.loss\.inter_class_weight: nan"),
        ({"kind": "nkd", "standardize": False}, r"x\.loss\.gamma: this key is missing"),
        (NKD | {"gamma": "1.5"}, r"x\.loss\.gamma: '1\.5' \(str\)"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_key(row: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_loss(row, "params.yaml: students.x.loss")
    assert "\n" not in str(caught.value)


def test_the_mean_of_values_is_the_loss_of_hard_labels_alone() -> None:
    batch, model = batch_of(), Fixed(8)
    found = Objective(2.0, 0.0, 1.0, 0.0, loss_of())(model, batch, CPU)
    assert found.item() == pytest.approx(2 * cross_entropy(model.logits, batch.hard_labels).mean().item())
