"""A data set of independent classes: entries are written, read and trained on as they are."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_split, make_tagged_split
from project import edit_sealed

from pipeline.core.errors import DataError
from pipeline.data.dataset import ImageDataset, split_fingerprint
from pipeline.data.hard_labels import is_labelled, rows_fingerprint
from pipeline.data.splits import Split, SplitInMemory
from pipeline.preparation.write import write_dataset
from pipeline.training.epochs import Epoch
from pipeline.views.operations.flips import FlipHorizontal
from pipeline.views.operations.mixup import Mixup
from pipeline.views.spec import ViewSpec

NAMES = ("top left", "top right", "bottom left", "bottom right")


def unlabelled(split: SplitInMemory, rows: slice) -> SplitInMemory:
    """Returns the same split with nothing known of some rows."""
    labels = split.hard_labels.clone()
    labels[rows] = -1
    return replace(split, hard_labels=labels)


@pytest.fixture
def written(tmp_path: Path) -> tuple[ImageDataset, SplitInMemory]:
    train = unlabelled(make_tagged_split(40, unknown=0.2), slice(0, 5))
    splits = {"train": train, "val": make_tagged_split(8, seed=1), "test": make_tagged_split(8, seed=2)}
    write_dataset(tmp_path / "prepare", "digits", NAMES, splits)
    return ImageDataset(tmp_path / "prepare"), train


def test_tagged_images_are_bright_where_their_entries_are_1() -> None:
    split = make_tagged_split(50)
    quarters = split.inputs.unfold(2, 6, 6).unfold(3, 6, 6).reshape(50, 4, -1).float().mean(2)
    assert torch.equal(quarters > 110, split.hard_labels == 1)
    assert make_tagged_split(50, unknown=0.5).hard_labels.unique().tolist() == [-1, 0, 1]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_entries_are_read_as_they_were_written(written: tuple[ImageDataset, SplitInMemory], is_streamed: bool) -> None:
    dataset, train = written
    found: Split = dataset.stream("train") if is_streamed else dataset.split("train")
    assert found.hard_labels.dtype == torch.int8
    assert torch.equal(found.hard_labels, train.hard_labels)
    assert torch.equal(found.take(np.array([7, 3])).hard_labels, train.hard_labels[[7, 3]])
    assert dataset.manifest.signal == "binary"
    assert dataset.manifest.num_unlabelled == int((~is_labelled(train.hard_labels)).sum()) >= 5
    known = np.flatnonzero((train.hard_labels.numpy() >= 0).any(1))
    np.testing.assert_array_equal(found.labelled().sample_ids, train.sample_ids[known])


@pytest.mark.parametrize("operation", [FlipHorizontal(probability=0.5), Mixup(alpha=1.0, probability=1.0)])
def test_an_epoch_has_the_entries_of_each_sample_and_of_its_partner(
    written: tuple[ImageDataset, SplitInMemory], operation: FlipHorizontal | Mixup
) -> None:
    spec = ViewSpec(seed=3, plain_first=False, operations=(operation,))
    batches = list(Epoch(written[1], spec, view=0, number=0, batch_size=8, seed=1).batches())
    found = torch.cat([batch.hard_labels for batch in batches])
    assert sorted(found.tolist()) == sorted(written[1].hard_labels.tolist())
    partners = [batch.partner_labels for batch in batches]
    if isinstance(operation, Mixup):
        assert sorted(torch.cat([each for each in partners if each is not None]).tolist()) == sorted(found.tolist())
    else:
        assert partners == [None] * len(batches)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ({"class_names": ["a", "b", "c"]}, r"hard labels int8 \[40, 4\]; expected int8 \[40, 3\] \(the binary classes"),
        ({"signal": "categorical"}, r"hard labels int8 \[40, 4\]; expected int64 \[40\] \(the categorical classes"),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_entries_that_do_not_fit_the_manifest_are_refused(
    written: tuple[ImageDataset, SplitInMemory], edit: dict[str, object], told: str, is_streamed: bool
) -> None:
    folder = written[0].folder
    edit_sealed(folder / "manifest.json", lambda content: content | edit)
    dataset = ImageDataset(folder)
    with pytest.raises(DataError, match=rf"train\.zarr: {told} .*`dvc repro prepare`"):
        dataset.stream("train") if is_streamed else dataset.split("train")


def test_one_class_of_several_is_refused_where_the_manifest_has_independent_ones(tmp_path: Path) -> None:
    write_dataset(tmp_path, "digits", NAMES, dict.fromkeys(("train", "val", "test"), make_split(8)))
    edit_sealed(tmp_path / "manifest.json", lambda content: content | {"signal": "binary"})
    with pytest.raises(DataError, match=r"hard labels int64 \[8\]; expected int8 \[8, 4\]"):
        ImageDataset(tmp_path).split("val")


def test_a_manifest_of_before_has_one_class_of_several(tmp_path: Path) -> None:
    write_dataset(tmp_path, "digits", NAMES, dict.fromkeys(("train", "val", "test"), make_split(8)))
    edit_sealed(tmp_path / "manifest.json", lambda content: {k: v for k, v in content.items() if k != "signal"})
    assert ImageDataset(tmp_path).manifest.signal == "categorical"
    assert len(ImageDataset(tmp_path).split("train")) == 8


def test_a_fingerprint_changes_with_any_entry_and_is_the_same_in_every_version() -> None:
    split = make_tagged_split(3)
    labels = split.hard_labels.clone()
    labels[2, 1] = -1
    assert split_fingerprint(replace(split, hard_labels=labels)) != split_fingerprint(split)
    ids = np.array([1, 2], dtype=np.uint64)
    entries = np.array([[1, 0], [-1, 1]], dtype=np.int8)
    assert rows_fingerprint(ids, entries) == hashlib.sha256(ids.tobytes() + b"\1\0\xff\1").hexdigest()[:32]
    assert rows_fingerprint(ids, np.asfortranarray(entries)) == rows_fingerprint(ids, entries)
