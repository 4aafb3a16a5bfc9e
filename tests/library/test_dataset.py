"""`potstill.DistillationDataset`: views with their soft targets, in anyone's DataLoader."""

import copy
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_split
from stores import CLASSES, FLOAT16, NONE, REST, SPEC, SPLIT, flip, make, shards
from torch.utils.data import DataLoader, DistributedSampler

import potstill
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import SplitInMemory
from pipeline.library.samples import PreparedSamples
from pipeline.preparation.write import write_dataset
from pipeline.student.labelled_views import LabelledViews, Placement
from pipeline.views.operations.mixup import Mixup
from pipeline.views.plan import plan_view
from pipeline.views.spec import ViewSpec

MIXED = ViewSpec(seed=5, plain_first=False, operations=(*SPEC.operations, Mixup(alpha=1.0, probability=0.9)))
OTHER = make_split(3, seed=8)
IDS = SPLIT.sample_ids.view(np.int64)


def write(folder: Path, train: SplitInMemory = SPLIT, classes: list[str] = CLASSES) -> Path:
    other = make_split(4, seed=9)
    write_dataset(folder, "test", classes, {"train": train, "val": other, "test": other})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data"))


@pytest.fixture
def dataset(folder: Path, tmp_path: Path) -> potstill.DistillationDataset:
    return potstill.DistillationDataset(folder, potstill.open_labels(make(tmp_path / "store.zarr", FLOAT16).path))


def test_an_item_is_a_view_with_its_labels(dataset: potstill.DistillationDataset) -> None:
    for epoch in (0, 1, 2):
        dataset.set_epoch(epoch)
        view = epoch % 2
        views = plan_view(SPLIT, SPEC, view).render(slice(None))
        expected = dataset.labels.targets(IDS, view)
        item = dataset[3]
        assert isinstance(item, potstill.Item)
        assert torch.equal(item.view, views[3])
        torch.testing.assert_close(item.targets, expected[3])
        assert (int(item.hard_label), int(item.sample_id)) == (SPLIT.hard_labels[3], IDS[3])
        for item, row in zip(dataset.__getitems__([19, 0, 0, -1]), [19, 0, 0, 19], strict=True):
            assert torch.equal(item.view, views[row])
            torch.testing.assert_close(item.targets, expected[row])
    assert len(list(dataset)) == len(dataset) == 20
    assert f"20 samples, view {view}" in repr(dataset)


@pytest.mark.parametrize("collate", [None, potstill.collate], ids=["default", "ours"])
def test_batches_are_those_of_the_stages(dataset: potstill.DistillationDataset, collate: object) -> None:
    dataset.set_epoch(1)
    views = LabelledViews(SPLIT, dataset.labels.store, CLASSES, 1.0)
    (expected,) = views.batches(1, 0, batch_size=20, seed=3)
    batches = list(DataLoader(dataset, batch_size=8, shuffle=True, collate_fn=collate))  # type: ignore[arg-type]
    assert all(isinstance(batch, potstill.Item) for batch in batches)
    found = potstill.Item(*(torch.cat(column) for column in zip(*batches, strict=True)))
    places = places_of(found.view, expected.inputs)
    assert sorted(places) == list(range(20))
    assert torch.equal(found.hard_label[places], expected.hard_labels)
    assert isinstance(expected.soft_targets, torch.Tensor)
    torch.testing.assert_close(found.targets[places], expected.soft_targets)


def places_of(views: torch.Tensor, among: torch.Tensor) -> list[int]:
    """Returns the place of each view of `among` in `views`."""
    places = {view.numpy().tobytes(): place for place, view in enumerate(views)}
    return [places[view.numpy().tobytes()] for view in among]


@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_that_stay_see_the_epoch(dataset: potstill.DistillationDataset, method: str, workers: int) -> None:
    dataset.normalise = torch.Tensor.float
    dataset.labels.targets(IDS, 0)  # a parent that has read before it forks
    context = multiprocessing.get_context(method)
    loader = DataLoader(
        dataset,
        batch_size=7,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context=context,
        collate_fn=potstill.collate,
    )
    for epoch in (1, 0):
        dataset.set_epoch(epoch)
        views, targets, _, ids = (torch.cat(column) for column in zip(*loader, strict=True))
        assert torch.equal(views, plan_view(SPLIT, SPEC, epoch).render(slice(None)).float())
        torch.testing.assert_close(targets, dataset.labels.targets(IDS, epoch))
        assert ids.tolist() == IDS.tolist()
    del loader


def test_processes_of_a_team_share_an_epoch_and_a_run_goes_on(dataset: potstill.DistillationDataset) -> None:
    parts = []
    for rank in (0, 1):
        sampler = DistributedSampler(dataset, num_replicas=2, rank=rank, seed=1)
        loader = DataLoader(dataset, batch_size=5, sampler=sampler)
        sampler.set_epoch(4)
        dataset.set_epoch(4)
        whole = list(loader)
        again = list(DataLoader(copy.deepcopy(dataset), batch_size=5, sampler=sampler))[1:]
        for one, other in zip(whole[1:], again, strict=True):
            assert all(map(torch.equal, one, other))
        parts += [batch.sample_id for batch in whole]
    assert sorted(torch.cat(parts).tolist()) == sorted(IDS.tolist())


def test_data_on_disk_gives_the_same_items(folder: Path, dataset: potstill.DistillationDataset) -> None:
    budget = MemoryBudget.of_megabytes(4, 2, "memory_mb")
    streamed = ImageDataset(folder).stream("train")
    joined = LabelledViews(streamed, dataset.labels.store, CLASSES, 1.0, Placement(budget=budget))
    other = copy.copy(dataset)
    other._samples = PreparedSamples(joined)
    other = pickle.loads(pickle.dumps(other))
    for one, two in zip(dataset, other, strict=True):
        assert all(map(torch.equal, one, two))


def test_a_mixed_view_has_both_labels(folder: Path, tmp_path: Path) -> None:
    path = make(tmp_path / "mixed.zarr", FLOAT16, views=MIXED.to_dict()).path
    dataset = potstill.DistillationDataset(folder, potstill.open_labels(path))
    dataset.set_epoch(1)
    whole = next(iter(LabelledViews(SPLIT, dataset.labels.store, CLASSES, 1.0).batches(1, 0, batch_size=20, seed=0)))
    (batch,) = DataLoader(dataset, batch_size=20)
    assert isinstance(batch, potstill.MixedItem)
    places = places_of(batch.view, whole.inputs)
    assert torch.equal(batch.partner_label[places], whole.partner_labels)
    assert torch.equal(batch.own_share[places], whole.own_shares)
    torch.testing.assert_close(batch.targets[places], whole.soft_targets)
    assert torch.equal(dataset[2].view, batch.view[2])


def test_sparse_targets_come_as_such(folder: Path, tmp_path: Path) -> None:
    labels = potstill.open_labels(make(tmp_path / "rest.zarr", REST).path)
    dataset = potstill.DistillationDataset(folder, labels, temperature=2.0, sparse=True)
    expected = labels.targets(IDS, 0, 2.0, sparse=True)
    (whole,) = DataLoader(dataset, batch_size=20, collate_fn=potstill.collate)
    apart = potstill.collate([dataset[row] for row in range(20)])
    for batch in (whole, apart):
        for name in ("classes", "log_probs", "log_rest"):
            torch.testing.assert_close(getattr(batch.targets, name), getattr(expected, name))


def test_what_does_not_fit_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    labels = potstill.open_labels(make(tmp_path / "store.zarr", FLOAT16).path)
    topk = potstill.open_labels(make(tmp_path / "topk.zarr", REST).path)
    none = potstill.open_labels(make(tmp_path / "none.zarr", NONE).path)
    other = write(tmp_path / "other", make_split(20, seed=3))
    colour = write(tmp_path / "colour", make_split(20, shape=(3, 12, 12)))
    named = write(tmp_path / "named", classes=["z", *CLASSES[1:]])
    open_ = potstill.DistillationDataset
    for message, refused in {
        "for other data: .*; label the images with potstill.label_dataset, or give the very pixels": lambda: open_(
            other, labels
        ),
        "for other data: .* whose images have 1 channels, and these 3": lambda: open_(colour, labels),
        r"has no label for 3 of 23 .*; label the images with potstill": lambda: potstill.LabelledLoader(
            list(torch.cat([SPLIT.inputs, OTHER.inputs])), labels, 4
        ),
        "class 0 is 'a'": lambda: open_(named, labels),
        "3, which this store can't serve": lambda: open_(folder, topk, temperature=3.0),
        "no soft labels": lambda: open_(folder, none),
        "hold every class": lambda: open_(folder, labels, sparse=True),
        "set_epoch: -1; expected a whole number from 0 on": lambda: open_(folder, labels).set_epoch(-1),
        "set_epoch: '1'; expected a whole": lambda: open_(folder, labels).set_epoch("1"),  # type: ignore[arg-type]
        "labels: a dict; expected the labels of open_labels": lambda: open_(folder, {}),  # type: ignore[arg-type]
        "temperature: 0; expected a number above 0": lambda: open_(folder, labels, temperature=0),
        "expected a tensor of 1 views": lambda: open_(folder, labels, normalise=lambda views: views[:0])[0],
        "manifest.json": lambda: open_(tmp_path, labels),
    }.items():
        with pytest.raises(potstill.PotstillError, match=message) as caught:
            refused()
        assert "\n" not in str(caught.value)
        assert "dvc repro dump_labels" not in str(caught.value)


def test_a_damaged_block_ends_the_epoch(folder: Path, tmp_path: Path) -> None:
    store = make(tmp_path / "store.zarr", FLOAT16)
    flip(shards(store.path, "log_probs")[0])
    dataset = potstill.DistillationDataset(folder, potstill.open_labels(store.path))
    with pytest.raises(potstill.PotstillError):
        list(DataLoader(dataset, batch_size=4))
