"""Students of independent classes: their loss, what they refuse, and what they learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_tagged_split
from hypothesis import given, settings
from hypothesis import strategies as st
from project import student
from stores import FLOAT16, TOPK, UINT8, Row, manifest_of

from pipeline.core.config import validate
from pipeline.core.errors import ConfigError
from pipeline.data.signal_kinds import SignalKind
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import LabelSpace, build_encoding
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.models import ClassifierSpec
from pipeline.student.labelled_views import LabelledViews
from pipeline.student.losses.binary_kd import binary_distillation
from pipeline.student.losses.kd import knowledge_distillation
from pipeline.student.settings import TrainStudent
from pipeline.student.task import StudentTask
from pipeline.training.fit import fit
from pipeline.training.run import Workplace
from pipeline.training.trainer import Trainer
from pipeline.views.plan import RowOrder
from pipeline.views.spec import ViewSpec

CPU = torch.device("cpu")
TAGS = ["top left", "top right", "bottom left", "bottom right"]
SPLIT, VAL = make_tagged_split(128, unknown=0.1), make_tagged_split(96, seed=1)
ODDS8: Row = {"kind": "log_odds_uint8", "range_nats": 16.0, "steps": 127}
TOP: Row = {"kind": "top_odds", "k": 2, "range_nats": 16.0, "steps": 127}
KD, BINARY_KD = ({"kind": kind, "standardize": False} for kind in ("kd", "binary_kd"))
WHERE = "params.yaml: students.x"


def row_of(**changes: Any) -> TrainStudent:
    row: TrainStudent = validate(TrainStudent, student(**{"loss": BINARY_KD} | changes), WHERE)
    return row


def knowing(split: SplitInMemory, rows: torch.Tensor) -> torch.Tensor:
    """Returns the log-odds of a teacher that knows which quarters are bright, more or less."""
    quarters = split.inputs[rows].float().unfold(2, 6, 6).unfold(3, 6, 6).mean(dim=(4, 5)).flatten(1)
    return (quarters - 112) / 20


def writer_tables(manifest: Manifest) -> dict[str, np.ndarray]:
    """Returns what the encoding learns from the teacher."""
    return build_encoding(manifest.encoding, "test").learn(knowing(SPLIT, torch.arange(64)), manifest.space)


def store_of(path: Path, row: Row = ODDS8, **changes: Any) -> StoreReader:
    """Returns a store of two views of the training split, whose labels are of them as they are."""
    views = {"seed": 1, "plain_first": True, "operations": []}
    about = {"class_names": TAGS, "signal": "binary", "views": views, "block_samples": 64} | changes
    manifest, ids = manifest_of(row, SPLIT, **about), SPLIT.sample_ids
    tables = writer_tables(manifest)
    spec, order = ViewSpec.from_dict(views, "test"), RowOrder(ids, 64)
    canaries = make_canaries(SPLIT, spec, [0, 1], 4, order)
    writer = StoreWriter(path, path.with_suffix(".records"), manifest, ids, canaries, tables)
    for block in writer.manifest.blocks():
        writer.write(block, knowing(SPLIT, torch.arange(block.rows.start, block.rows.stop)))
    writer.finish()
    return StoreReader(path)


@settings(max_examples=30, deadline=None, database=None)
@given(seed=st.integers(0, 2**31), classes=st.integers(1, 5), temperature=st.sampled_from([0.5, 1.0, 3.0]))
def test_the_loss_is_the_sum_of_two_class_distillations_with_their_gradients(
    seed: int, classes: int, temperature: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    odds = (4 * torch.randn(3, classes, generator=generator)).double().requires_grad_()
    teacher = (4 * torch.randn(3, classes, generator=generator)).double()
    found = binary_distillation(odds, teacher / temperature, temperature=temperature)
    zero = torch.zeros(3, dtype=torch.float64)
    expected = zero
    for own, other in zip(odds.T, teacher.T, strict=True):
        targets = torch.log_softmax(torch.stack([other, zero], dim=1) / temperature, dim=1)
        expected = expected + knowledge_distillation(torch.stack([own, zero], dim=1), targets, temperature=temperature)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(each.sum(), odds, retain_graph=True)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients)


def trained(folder: Path, row: TrainStudent, store: StoreReader) -> dict[str, float]:
    """Returns the figures of a student after its training."""
    views = LabelledViews(SPLIT, store, TAGS, row.read_temperature)
    spec = ClassifierSpec(row.model, row.model_settings, num_classes=4, channels=1, mean=[0.4], std=[0.3])
    task = StudentTask(row, views, VAL, CPU)
    torch.manual_seed(0)
    run = Trainer(spec.build(0), task, row.fit, Workplace(folder, CPU, "x", where=WHERE))
    (result,) = fit([run])
    return result.state.history[-1]


@pytest.mark.parametrize("row", [ODDS8, TOP, FLOAT16], ids=lambda row: row["kind"])
def test_a_student_learns_independent_classes_from_a_store_alone(tmp_path: Path, row: Row) -> None:
    changes: Row = {"hard_weight": 0.0, "soft_weight": 1.0, "temperature": 2.0}
    fitted = student()["fit"] | {"epochs": 6, "batch_size": 32, "learning_rate": 0.03, "checkpoint_seconds": 1e9}
    figures = trained(tmp_path, row_of(**changes, fit=fitted), store_of(tmp_path / "x.zarr", row))
    assert list(figures)[3] == "val_map"
    assert figures["val_map"] > 0.9  # chance is about 0.5
    assert figures["val_accuracy"] > 0.8


def test_hard_labels_with_unknown_entries_teach_as_well(tmp_path: Path) -> None:
    fitted = student()["fit"] | {"epochs": 6, "batch_size": 32, "learning_rate": 0.03, "checkpoint_seconds": 1e9}
    row = row_of(labels="none", hard_weight=1.0, soft_weight=0.0, fit=fitted)
    figures = trained(tmp_path, row, store_of(tmp_path / "x.zarr", {"kind": "none"}, teacher=None))
    assert figures["val_map"] > 0.9


@pytest.mark.parametrize(
    ("loss", "signal", "encoding", "line"),
    [
        (KD, "binary", ODDS8, r"^params.yaml: students.x.loss.kind: 'kd', which learns from categorical or grid labels, and these are binary; expected binary_kd"),
        (BINARY_KD, "categorical", UINT8, r"^params.yaml: students.x.loss.kind: 'binary_kd', which learns from binary labels, and these are categorical; expected kd, "),
        (BINARY_KD | {"standardize": True}, "binary", ODDS8, r"^params.yaml: students.x.loss.standardize: True \(bool\); expected False"),
    ],
    ids=["kd", "binary_kd", "standardised"],
)  # fmt: skip
def test_a_loss_of_another_signal_is_refused_in_a_line(
    tmp_path: Path, loss: Row, signal: SignalKind, encoding: Row, line: str
) -> None:
    store = store_of(tmp_path / "x.zarr", encoding, signal=signal)
    with pytest.raises(ConfigError, match=line) as caught:
        row_of(loss=loss).check_labels(store.encoding, store.codec, mixes=False, where=WHERE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "signal"), [(UINT8, "binary"), (TOPK, "binary"), (ODDS8, "categorical"), (TOP, "categorical")]
)
def test_an_encoding_of_another_signal_is_refused_in_a_line(encoding: Row, signal: SignalKind) -> None:
    space = LabelSpace(4, 1.0, (1.0,), signal)
    with pytest.raises(
        ConfigError, match=rf"^encodings.x.kind: .*holds labels of the signal .*one for {signal} labels"
    ):
        build_encoding(encoding, "x").check(space, "encodings.x")
