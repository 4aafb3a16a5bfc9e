"""`potstill.losses`: the modules give what the stages' losses give."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import make_split
from logits import HARD_LABELS, STUDENT, TEACHER
from stores import FLOAT16, REST, make
from torch import nn
from torch.nn.functional import log_softmax

import potstill
from pipeline.labels.targets import SparseTargets
from pipeline.signals import SIGNALS
from pipeline.student.batches import LabelledBatch
from pipeline.student.losses import LOSSES, build_loss
from pipeline.student.objective import Objective
from potstill import losses

SETTINGS: dict[str, dict[str, float]] = {
    "kd": {},
    "dkd": {"target_weight": 1.0, "other_weight": 8.0, "warmup_epochs": 4},
    "dist": {"inter_class_weight": 2.0, "intra_class_weight": 1.0},
    "nkd": {"gamma": 1.5},
    "mse": {},
}
MODULES: dict[str, Callable[..., losses.SoftTargetLoss]] = {
    "kd": losses.KD,
    "dkd": losses.DKD,
    "dist": losses.DIST,
    "nkd": losses.NKD,
    "mse": losses.CentredMSE,
}
TARGETS = log_softmax(TEACHER / 4, dim=1)


def of(module: Callable[..., losses.SoftTargetLoss]) -> losses.Distillation:
    return losses.Distillation(module(4.0))


class Given(nn.Module):
    """A network that returns these logits."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def test_every_loss_has_a_module() -> None:
    assert {*MODULES, "binary_kd"} == {kind for kind, loss in LOSSES.items() if loss.signals != ("grid",)}
    assert {"BinaryKD", *(loss.__name__ for loss in MODULES.values())} < set(losses.__all__)


def test_the_module_of_independent_classes_gives_the_stages_objective() -> None:
    odds, entries = TEACHER / 4, torch.tensor([[1, 0, -1, 0], [0, 1, 1, -1], [-1, -1, 0, 1]], dtype=torch.int8)
    logits = [STUDENT.clone().requires_grad_() for _ in range(2)]
    objective = Objective(0.3, 0.7, 4.0, 0.1, build_loss({"kind": "binary_kd"}, "loss"), signal=SIGNALS["binary"])
    batch = LabelledBatch(make_split(3).inputs, entries, soft_targets=odds)
    module = losses.Distillation(losses.BinaryKD(4.0), hard_weight=0.3, soft_weight=0.7, label_smoothing=0.1)
    values = [objective(Given(logits[0]), batch, torch.device("cpu")), module(logits[1], odds, entries)]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*torch.autograd.grad(values, logits))


@pytest.mark.parametrize(
    ("module", "labels", "line"),
    [
        (losses.BinaryKD, HARD_LABELS, r"^binary_kd: hard labels of shape \[3\]; expected \[3, 4\], an entry for each class"),
        (losses.KD, torch.zeros(3, 4, dtype=torch.int8), r"^kd: hard labels of shape \[3, 4\]; expected one class for"),
    ],
    ids=["classes", "entries"],
)  # fmt: skip
def test_hard_labels_of_another_signal_are_refused(
    module: Callable[..., losses.SoftTargetLoss], labels: torch.Tensor, line: str
) -> None:
    with pytest.raises(potstill.PotstillError, match=line):
        module(4.0)(STUDENT, TARGETS, labels)


@pytest.mark.parametrize("mixes", [False, True], ids=["plain", "mixed"])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("kind", SETTINGS)
def test_a_module_gives_the_stages_objective_with_its_gradient(kind: str, standardize: bool, mixes: bool) -> None:
    values = []
    if mixes and LOSSES[kind].needs_hard_label:
        pytest.skip("it needs plain views")
    count, labels = len(STUDENT), HARD_LABELS
    partners = labels.flip(0).index_fill(0, torch.tensor([0]), -1) if mixes else None
    shares = torch.linspace(0.5, 1, count) if mixes else None
    logits = [STUDENT.clone().requires_grad_() for _ in range(2)]
    # 1. The stages'.
    loss = build_loss({"kind": kind, "standardize": standardize, **SETTINGS[kind]}, "loss")
    objective = Objective(0.3, 0.7, 4.0, 0.1, loss)
    batch = LabelledBatch(make_split(count).inputs, labels, partners, shares, soft_targets=TARGETS, epoch=1)
    values.append(objective(Given(logits[0]), batch, torch.device("cpu")))
    # 2. The module's.
    module = MODULES[kind](4.0, standardize=standardize, **SETTINGS[kind])
    module.set_epoch(1)
    whole = losses.Distillation(module, hard_weight=0.3, soft_weight=0.7, label_smoothing=0.1)
    values.append(whole(logits[1], TARGETS, labels, partners, shares))
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(*torch.autograd.grad(values, logits))
    assert kind.capitalize() in repr(whole)


ALL: dict[str, Callable[[], losses.Loss]] = {
    **{kind: partial(module, 4.0) for kind, module in MODULES.items()},
    "hard": losses.HardLabelLoss,
    **{f"distillation of {kind}": partial(of, module) for kind, module in MODULES.items()},
}
PARTNERS, SHARES = HARD_LABELS.flip(0), torch.full((len(HARD_LABELS),), 0.7)
IDS = torch.arange(len(HARD_LABELS))


@pytest.mark.parametrize("loss", ALL.values(), ids=ALL)
def test_every_loss_takes_the_labels_of_every_kind_of_batch(loss: Callable[[], losses.Loss]) -> None:
    views = make_split(len(STUDENT)).inputs
    plain = [
        potstill.Item(views, TARGETS, HARD_LABELS, IDS),
        LabelledBatch(views, HARD_LABELS, None, None, soft_targets=TARGETS),
    ]
    values = [loss()(STUDENT, *batch.labels) for batch in plain]  # type: ignore[attr-defined]
    assert torch.equal(*values)
    mixed = [
        potstill.MixedItem(views, TARGETS, HARD_LABELS, IDS, PARTNERS, SHARES),
        LabelledBatch(views, HARD_LABELS, PARTNERS, SHARES, soft_targets=TARGETS),
    ]
    soft = getattr(loss(), "soft", loss())
    if isinstance(soft, losses.SoftTargetLoss) and soft.loss.needs_hard_label:
        for batch in mixed:
            with pytest.raises(potstill.PotstillError, match=r"mixed of two samples.*take KD, DIST or CentredMSE"):
                loss()(STUDENT, *batch.labels)  # type: ignore[attr-defined]
        return
    both = [loss()(STUDENT, *batch.labels) for batch in mixed]  # type: ignore[attr-defined]
    assert torch.equal(*both)
    assert torch.equal(both[0], values[0]) == isinstance(loss(), losses.SoftTargetLoss), "others take both labels"


@pytest.mark.parametrize("loss", ALL.values(), ids=ALL)
def test_every_loss_checks_labels_and_is_told_the_epoch(loss: Callable[[], losses.Loss], tmp_path: Path) -> None:
    topk = make(tmp_path / "rest.zarr", REST).path
    loss().set_epoch(3)
    loss().check(make(tmp_path / "store.zarr", FLOAT16).path)
    soft = getattr(loss(), "soft", loss())
    if isinstance(soft, losses.SoftTargetLoss) and soft.loss.kind != "kd":
        with pytest.raises(potstill.PotstillError, match="can't learn from"):
            loss().check(str(topk))
    else:
        loss().check(potstill.open_labels(topk))


def test_sparse_targets_and_low_precision() -> None:
    every = torch.arange(3).expand(len(TARGETS), 3)
    rest = TARGETS[:, 3:].logsumexp(dim=1)
    sparse = SparseTargets(every, TARGETS[:, :3], rest)
    loss = losses.KD(4.0)
    torch.testing.assert_close(loss(STUDENT, sparse, HARD_LABELS), loss(STUDENT, TARGETS, HARD_LABELS))
    half = loss(STUDENT.bfloat16(), TARGETS.float(), HARD_LABELS)
    assert half.dtype == torch.float32


def test_what_can_not_be_learned_from_is_refused_in_one_line() -> None:
    sparse = SparseTargets(torch.zeros(3, 1, dtype=torch.int64), torch.zeros(3, 1), None)
    unknown = torch.full_like(HARD_LABELS, -1)
    for message, refused in {
        "can't learn from sparse targets": lambda: losses.DIST(2.0)(STUDENT, sparse, HARD_LABELS),
        "standardised, can't learn": lambda: losses.KD(2.0, standardize=True)(STUDENT, sparse, HARD_LABELS),
        "hard label -1; expected a class of 0 to 3; take": lambda: losses.DKD(2.0)(STUDENT, TARGETS, unknown),
        r"hard label 4; expected a class of 0 to 3, or -1$": lambda: losses.HardLabelLoss()(
            STUDENT, TARGETS, unknown + 5
        ),
        r"kd: logits of shape .* 3\]; expected .* 4\], as the soft": lambda: losses.KD(2.0)(
            STUDENT[:, :3], TARGETS, HARD_LABELS
        ),
        "expected one row for each of 2 hard": lambda: losses.HardLabelLoss()(STUDENT, TARGETS, HARD_LABELS[:2]),
        r"HardLabelLoss: hard labels of shape \[3, 2, 2\]; expected a class": lambda: losses.HardLabelLoss()(
            STUDENT, TARGETS, torch.zeros(3, 2, 2, dtype=torch.int16)
        ),
        "label_smoothing: -1; expected a number from 0": lambda: losses.HardLabelLoss(-1),
        "hard_weight: nan": lambda: losses.Distillation(losses.KD(1.0), hard_weight=float("nan")),
        "set_epoch: -1; expected a whole number from 0": lambda: losses.KD(1.0).set_epoch(-1),
        "temperature: 0; expected a number above 0": lambda: losses.KD(0),
        "nkd": lambda: losses.NKD(1.0, gamma=-1.0),
        "channelwise: a loss of classes at positions": lambda: losses.SoftTargetLoss(
            "channelwise", 1.0, standardize=False
        ),
        "one of them above 0": lambda: losses.Distillation(losses.KD(1.0), hard_weight=0, soft_weight=0),
    }.items():
        with pytest.raises(potstill.PotstillError, match=message) as caught:
            refused()
        assert "\n" not in str(caught.value)
