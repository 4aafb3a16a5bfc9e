"""Anchors that are not the teacher's are found, though everything in their store fits together."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from stores import ANCHORED, Row, content, is_sound, take
from test_labelling import dump, network

from pipeline.labelling import target
from pipeline.labelling.first_views import make_anchors
from pipeline.labelling.settings import VerifyLabels
from pipeline.labelling.verify import TeacherNow, Witness, verify_store
from pipeline.labels.encodings import LabelSpace, build_encoding
from pipeline.labels.reader import StoreReader

MANY = VerifyLabels(num_labels=400, seed=0, kl_tolerance_nats=1e-3, accuracy_tolerance=0, batch_size=9, device="cpu")
SPACE = LabelSpace(6, 1.0, (1.0,))
Change = Callable[[torch.Tensor], torch.Tensor]


def faults_of(store: StoreReader, rows: range = range(20)) -> list[str]:
    witness = Witness(network(), TeacherNow("0000", 0.9))
    result = verify_store(store.path, witness, take(rows), MANY)
    assert result.num_anchors == len(rows)
    return result.faults


@pytest.fixture
def altered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], StoreReader]:
    """Returns what makes a store in which the anchor of one row is made of something else."""

    def make(change: Change, row: Row = ANCHORED) -> StoreReader:
        def wrong(codec: object, mean: torch.Tensor) -> dict[str, torch.Tensor]:
            return make_anchors(codec, torch.cat([change(mean[:1]), mean[1:]]))  # type: ignore[arg-type]

        monkeypatch.setattr(target, "make_anchors", wrong)
        return dump(tmp_path / "x.zarr", row, network())

    return make


def test_a_whole_store_has_the_anchors_of_its_teacher_wherever_its_images_are(tmp_path: Path) -> None:
    store = dump(tmp_path / "x.zarr", ANCHORED, network(), view_numbers=[5, 1])
    assert faults_of(store) == []
    dump(tmp_path / "y.zarr", ANCHORED, network(), take(range(20)))
    assert faults_of(StoreReader(tmp_path / "y.zarr"), range(19, -1, -1)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda mean: mean.roll(1, dims=1),
        lambda mean: torch.log_softmax(mean * 0.2, dim=1),
        lambda mean: torch.log_softmax(mean * 3, dim=1),
    ],
    ids=["other classes", "flatter", "sharper"],
)
def test_an_anchor_of_something_else_is_found_though_its_labels_fit(
    altered: Callable[[Change], StoreReader], change: Change
) -> None:
    store = altered(change)
    assert is_sound(store)
    before = content(store.path)
    (fault,) = faults_of(store)
    # Three blocks of rows, whose first anchors are wrong.
    assert "x.zarr: 3 of 20 anchors are not the teacher's: the one in row" in fault
    assert "steps from the mean of its first 2 views, expected at most 1" in fault
    assert len(fault) < 500
    assert content(store.path) == before


def test_the_last_bits_of_another_machine_are_no_fault() -> None:
    """Even where they decide which of two classes is listed."""
    codec = build_encoding(ANCHORED, "test").codec(SPACE, {})
    generator = torch.Generator().manual_seed(0)
    mean = torch.log_softmax(4 * torch.randn(500, 6, generator=generator), dim=1)
    mean[:, 3] = mean[:, 4]  # equally likely
    mean = torch.log_softmax(mean, dim=1)
    there = torch.log_softmax(mean + 1e-3 * torch.randn(500, 6, generator=generator), dim=1)
    anchors = codec.make_anchors(there)
    assert not all(torch.equal(values, anchors[name]) for name, values in codec.make_anchors(mean).items())
    off = codec.anchors_off(anchors, mean).numpy()
    assert off.max() < 0.6
    assert (codec.anchors_off(anchors, mean.roll(1, 0)).numpy() > 1).mean() > 0.9
    assert np.all(codec.anchors_off(codec.make_anchors(mean * 1e4), torch.log_softmax(mean * 1e4, dim=1)).numpy() < 1)
