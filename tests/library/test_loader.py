"""`potstill.LabelledLoader`: the batches that the stages train on, as a plain iterable."""

from pathlib import Path

import pytest
import torch
from stores import CLASSES, FLOAT16, REST, SPLIT, make
from test_dataset import folder as folder

import potstill
from pipeline.student.batches import LabelledBatch
from pipeline.student.labelled_views import LabelledViews
from potstill import losses


def same(one: LabelledBatch, other: LabelledBatch) -> bool:
    assert isinstance(one.soft_targets, torch.Tensor)
    assert isinstance(other.soft_targets, torch.Tensor)
    pairs = [(one.inputs, other.inputs), (one.hard_labels, other.hard_labels), (one.soft_targets, other.soft_targets)]
    return all(torch.equal(first, second) for first, second in pairs)


def test_batches_are_those_of_the_stages_and_go_on_from_any_step(folder: Path, tmp_path: Path) -> None:
    labels = potstill.open_labels(make(tmp_path / "store.zarr", FLOAT16).path)
    loader = potstill.LabelledLoader(folder, labels, 6, temperature=2.0, seed=7)
    assert len(loader) == 3
    for epoch in (0, 3):
        loader.set_epoch(epoch)
        expected = list(LabelledViews(SPLIT, labels.store, CLASSES, 2.0).batches(epoch, 0, batch_size=6, seed=7))
        for found in (list(loader), list(loader.to("cpu"))):
            assert len(found) == 3
            assert all(map(same, found, expected))
        assert all(map(same, loader.from_step(1), expected[1:]))
        shares = [loader.share_of(rank, 2) for rank in (0, 1)]
        for batch, one, other in zip(expected, *shares, strict=True):
            assert torch.equal(batch.inputs, torch.cat([one.inputs, other.inputs]))


@pytest.mark.gpu
def test_batches_on_a_gpu_are_those_of_the_processor(folder: Path, tmp_path: Path) -> None:
    labels = potstill.open_labels(make(tmp_path / "store.zarr", FLOAT16).path)
    loader = potstill.LabelledLoader(folder, labels, 6)
    for one, other in zip(loader, loader.to("cuda"), strict=True):
        assert {each.device.type for each in vars(other).values() if isinstance(each, torch.Tensor)} == {"cuda"}
        assert torch.equal(one.inputs, other.inputs.cpu())
        torch.testing.assert_close(one.soft_targets, other.soft_targets.cpu())  # type: ignore[union-attr]


def test_sparse_labels_come_as_such_and_losses_are_told_what_they_can_use(folder: Path, tmp_path: Path) -> None:
    labels = potstill.open_labels(make(tmp_path / "rest.zarr", REST).path)
    loader = potstill.LabelledLoader(folder, labels.location, 20)
    assert "20 samples, 1 batches of 20, view 0 of" in repr(loader)
    batch = next(iter(loader))
    assert isinstance(batch.soft_targets, potstill.SparseTargets)
    losses.KD(1.0).check(labels)
    for message, refused in {
        "'dist' can't learn from": lambda: losses.DIST(1.0).check(labels),
        "3, which this store can't serve": lambda: losses.KD(3.0).check(labels),
        "batch_size: 0; expected a whole number from 1": lambda: potstill.LabelledLoader(folder, labels, 0),
        "batch_size: 21, and there are 20 samples": lambda: potstill.LabelledLoader(folder, labels, 21),
        "set_epoch: -1; expected a whole number from 0 on": lambda: potstill.LabelledLoader(
            folder, labels, 4
        ).set_epoch(-1),
        "expected 0 <= rank < world": lambda: potstill.LabelledLoader(folder, labels, 4).share_of(2, 2),
    }.items():
        with pytest.raises(potstill.PotstillError, match=message):
            refused()
