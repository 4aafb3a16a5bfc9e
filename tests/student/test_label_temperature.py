"""`label_temperature`: soft labels at another temperature than the student's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from project import student
from stores import CLASSES, FLOAT16, REST, SPLIT, TOPK, Row, make

from pipeline.core.config import validate
from pipeline.core.errors import ConfigError, StoreError
from pipeline.student.batches import LabelledBatch
from pipeline.student.labelled_views import LabelledViews
from pipeline.student.losses import LOSSES
from pipeline.student.settings import TrainStudent

WHERE = "params.yaml: students.x"
KD: Row = {"kind": "kd", "standardize": False}
ROWS: dict[str, Row] = {
    "kd": KD,
    "dkd": {"kind": "dkd", "standardize": False, "target_weight": 1.0, "other_weight": 8.0, "warmup_epochs": 1},
    "dist": {"kind": "dist", "standardize": False, "inter_class_weight": 1.0, "intra_class_weight": 2.0},
    "nkd": {"kind": "nkd", "standardize": False, "gamma": 1.5},
    "mse": {"kind": "mse", "standardize": False},
    "binary_kd": {"kind": "binary_kd", "standardize": False},
    "channelwise": {"kind": "channelwise", "standardize": False},
}


def row_of(**changes: Any) -> TrainStudent:
    row: TrainStudent = validate(TrainStudent, student(**{"hard_weight": 0.0, "soft_weight": 1.0} | changes), WHERE)
    return row


def refused(row: TrainStudent) -> str:
    """Returns the line by which a row is refused."""
    with pytest.raises(ConfigError) as caught:
        row.check(WHERE, {})
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) <= 500
    return line


class Said(torch.nn.Module):
    """A network that predicts what it is told; its logits are parameters."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(images)]


def one_batch(path: Path, row: TrainStudent, encoding: Row = FLOAT16) -> LabelledBatch:
    views = LabelledViews(SPLIT, make(path, encoding), CLASSES, row.read_temperature)
    return next(views.batches(0, 0, batch_size=len(SPLIT), seed=0))


def numbers(targets: object) -> np.ndarray:
    assert isinstance(targets, torch.Tensor)
    return targets.double().numpy()


@pytest.mark.parametrize(
    ("temperature", "label_temperature"), [(1.0, 4.0), (2.0, 1.0), (4.0, 2.0), (2.0, None), (3.0, 4.0)]
)
def test_the_square_is_the_students_temperature_and_the_gradient_a_difference_of_probabilities(
    tmp_path: Path, temperature: float, label_temperature: float | None
) -> None:
    row = row_of(temperature=temperature, label_temperature=label_temperature)
    batch = one_batch(tmp_path / "x.zarr", row)
    dense = one_batch(tmp_path / "y.zarr", row_of(temperature=1.0))
    # 1. The labels, at their own temperature.
    scaled = np.exp(numbers(dense.soft_targets) / (label_temperature or temperature))
    teacher = scaled / scaled.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(numbers(batch.soft_targets)), teacher, atol=0.002)
    # 2. The loss and its gradient.
    model = Said(2 * torch.randn(len(SPLIT), len(CLASSES), generator=torch.Generator().manual_seed(0)).double())
    loss = row.objective(row.known_temperature)(model, batch, torch.device("cpu"))
    loss.backward()
    powers = np.exp(model.logits.detach().numpy() / temperature)
    guess = powers / powers.sum(axis=1, keepdims=True)
    expected = temperature**2 * (teacher * np.log(teacher / guess)).sum(axis=1).mean()
    assert loss.item() == pytest.approx(expected, rel=0.005)
    assert model.logits.grad is not None
    np.testing.assert_allclose(
        model.logits.grad * len(SPLIT), temperature * (guess - teacher), atol=0.002 * temperature
    )


@pytest.mark.parametrize("encoding", [TOPK, REST], ids=["filled tail", "some classes"])
def test_labels_of_some_classes_are_read_at_their_own_temperature_too(tmp_path: Path, encoding: Row) -> None:
    mixed, both = row_of(temperature=1.0, label_temperature=4.0), row_of(temperature=4.0)
    batches = [one_batch(tmp_path / f"{number}.zarr", row, encoding) for number, row in enumerate((mixed, both))]
    values = [
        row.objective(1.0)(Said(torch.zeros(len(SPLIT), 6)), batch, torch.device("cpu")).item()
        for row, batch in zip((mixed, both), batches, strict=True)
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("kind", ROWS)
def test_losses_that_have_one_temperature_refuse_another_for_labels(kind: str, standardize: bool) -> None:
    assert ROWS.keys() == LOSSES.keys()
    loss = ROWS[kind] | {"standardize": standardize}
    if kind in {"binary_kd", "channelwise"} and standardize:
        assert "loss.standardize: True" in refused(row_of(loss=loss))
        return
    row_of(loss=loss).check(WHERE, {})
    row_of(loss=loss, label_temperature=4.0, soft_weight=0.0, hard_weight=1.0).check(WHERE, {})  # nothing is read
    row = row_of(loss=loss, label_temperature=4.0)
    if kind in {"kd", "dkd", "dist", "binary_kd", "channelwise"} and not standardize:
        row.check(WHERE, {})
        return
    line = refused(row)
    assert line.startswith(f"{WHERE}.label_temperature: given, and loss kind {kind!r}")
    assert ("standardised, has" in line) == standardize


def test_auto_chooses_one_temperature_for_both_sides() -> None:
    line = refused(row_of(temperature="auto", label_temperature=4.0))
    assert line.startswith(f"{WHERE}.label_temperature: 4, and temperature: auto, which chooses one")
    row_of(hard_weight="auto", soft_weight="auto", label_temperature=4.0).check(WHERE, {})


@pytest.mark.parametrize("value", [0, -1.0, "auto", "4", True, float("nan"), 1e9])
def test_any_other_value_is_refused_by_key(value: object) -> None:
    with pytest.raises(ConfigError, match=r"students\.x\.label_temperature"):
        row_of(label_temperature=value)


@pytest.mark.parametrize(("temperature", "label_temperature", "fits"), [(3.0, 4.0, True), (2.0, 3.0, False)])
def test_the_store_must_serve_the_labels_temperature_alone(
    tmp_path: Path, temperature: float, label_temperature: float, fits: bool
) -> None:
    store, row = make(tmp_path / "x.zarr", TOPK), row_of(temperature=temperature, label_temperature=label_temperature)
    if fits:
        row.check_labels(store.encoding, store.codec, False, WHERE)
    else:
        with pytest.raises(StoreError, match="temperature: 3, which this store can't serve"):
            row.check_labels(store.encoding, store.codec, False, WHERE)
