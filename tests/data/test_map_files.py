"""A data set whose pixels have classes: maps are written, read and streamed as they are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_split
from project import edit_sealed

from pipeline.core.errors import DataError, StoreError
from pipeline.data import dataset as opened
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset, split_fingerprint
from pipeline.data.hard_labels import is_labelled
from pipeline.data.map_files import read_maps
from pipeline.data.splits import Split, SplitInMemory
from pipeline.preparation.write import write_dataset
from pipeline.training.epochs import Epoch
from pipeline.views.operations.flips import FlipHorizontal
from pipeline.views.spec import ViewSpec

NAMES = ("background", "ring", "dot")


def with_maps(count: int, seed: int = 0) -> SplitInMemory:
    """Returns images with random maps of three classes, a tenth of them unknown."""
    split, random = make_split(count, seed=seed), np.random.default_rng(seed)
    maps = random.choice([-1, 0, 1, 2], (count, *split.input_shape[1:]), p=[0.1, 0.5, 0.2, 0.2])
    return replace(split, hard_labels=torch.from_numpy(maps.astype(np.int16)))


@pytest.fixture
def written(tmp_path: Path) -> tuple[ImageDataset, SplitInMemory]:
    train = with_maps(40)
    train.hard_labels[3] = -1
    write_dataset(tmp_path / "prepare", "made up", NAMES, {"train": train, "val": with_maps(8, 1), "test": train})
    return ImageDataset(tmp_path / "prepare"), train


@pytest.mark.parametrize("is_streamed", [False, True])
def test_maps_are_read_as_they_were_written(written: tuple[ImageDataset, SplitInMemory], is_streamed: bool) -> None:
    dataset, train = written
    found: Split = dataset.stream("train") if is_streamed else dataset.split("train")
    assert found.hard_labels.dtype == torch.int16
    assert torch.equal(found.hard_labels, train.hard_labels)
    assert torch.equal(found.take(np.array([7, 3])).hard_labels, train.hard_labels[[7, 3]])
    assert (dataset.manifest.signal, dataset.manifest.num_unlabelled) == ("grid", 1)
    assert len(found.labelled()) == 39
    assert dataset.manifest.fingerprints["train"] == split_fingerprint(train)


def test_maps_of_a_split_on_disk_are_not_held(written: tuple[ImageDataset, SplitInMemory]) -> None:
    path = written[0].folder / "train.maps.npy"
    assert isinstance(read_maps(path, is_held=False), np.memmap)
    assert not isinstance(read_maps(path, is_held=True), np.memmap)
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            opened, "read_maps", lambda path, is_held: asked.append(is_held) or read_maps(path, is_held=is_held)
        )
        written[0].stream("train")
        written[0].split("train")
    assert asked == [False, True]


def test_an_epoch_from_the_disk_has_the_maps_of_its_views(written: tuple[ImageDataset, SplitInMemory]) -> None:
    dataset, train = written
    streamed, spec = (
        dataset.stream("train"),
        ViewSpec(seed=3, plain_first=False, operations=(FlipHorizontal(probability=0.5),)),
    )
    budget = MemoryBudget.of_megabytes(1, 8, "test")
    for batch in Epoch(
        streamed, spec, view=1, number=0, batch_size=8, seed=1, paging=streamed.paging(budget)
    ).batches():
        for image, labels in zip(batch.inputs, batch.hard_labels, strict=True):
            own = [
                (i, m)
                for i, m in zip(train.inputs, train.hard_labels, strict=True)
                if i.sort().values.equal(image.sort().values)
            ]
            assert own
            assert any(
                (torch.equal(labels, m) and torch.equal(image, i)) or torch.equal(labels, m.flip(1)) for i, m in own
            )


def test_what_is_known_is_found_some_maps_at_a_time() -> None:
    maps = torch.full((3000, 2, 2), -1, dtype=torch.int16)
    maps[[0, 1023, 1024, 2999], 1, 1] = 0
    assert is_labelled(maps).nonzero()[:, 0].tolist() == [0, 1023, 1024, 2999]
    assert np.flatnonzero(is_labelled(maps.numpy())).tolist() == [0, 1023, 1024, 2999]
    assert len(is_labelled(maps[:0])) == 0


def test_maps_count_among_what_is_held(written: tuple[ImageDataset, SplitInMemory]) -> None:
    _, height, width = written[1].input_shape
    assert written[0].split("val").held_bytes == written[0].manifest.input_bytes("val")
    assert written[0].manifest.input_bytes("val") == 8 * (written[1].inputs[0].numel() + 2 * height * width)


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2:] = b"\1\0" if content[-2:] != b"\1\0" else b"\2\0"
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (Path.unlink, r"train\.maps\.npy: no such file"),
        (spoil, r"train\.maps\.npy: not a whole NumPy file"),
        (change, r"train\.zarr: fingerprint \w+; expected"),
        (
            lambda path: np.save(path, np.zeros((40, 28, 28))),
            r"train\.maps\.npy: float64 \[40, 28, 28\]; expected maps",
        ),
        (
            lambda path: np.save(path, np.zeros((40, 3, 3), np.int16)),
            r"hard labels int16 \[40, 3, 3\]; expected int16 \[40",
        ),
    ],
    ids=["lost", "cut", "changed", "of fractions", "of another size"],
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_damaged_maps_are_refused(
    written: tuple[ImageDataset, SplitInMemory], damage: Callable[[Path], object], told: str, is_streamed: bool
) -> None:
    dataset = written[0]
    damage(dataset.folder / "train.maps.npy")
    with pytest.raises(DataError, match=told + ".*`dvc repro prepare`"):
        dataset.stream("train") if is_streamed else dataset.split("train")


def test_a_manifest_of_another_signal_is_refused(written: tuple[ImageDataset, SplitInMemory]) -> None:
    edit_sealed(written[0].folder / "manifest.json", lambda content: content | {"signal": "categorical"})
    with pytest.raises(StoreError, match=r"hard_labels.*no such array"):
        ImageDataset(written[0].folder).split("train")
