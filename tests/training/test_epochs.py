"""A teacher's epoch over images on disk: the batches of memory where one window holds all, and
every row once where none does.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split

import pipeline.core.arrays
import pipeline.data.images
from pipeline.data.dataset import ImageDataset
from pipeline.data.paging import Paging
from pipeline.data.sample_ids import SampleIndex
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.data.splits import Split, SplitInMemory
from pipeline.preparation.write import write_dataset
from pipeline.training.batches import WHOLE, Batch, Share, num_steps
from pipeline.training.epochs import Epoch
from pipeline.views.operations.cutmix import CutMix
from pipeline.views.operations.flips import FlipHorizontal
from pipeline.views.operations.mixup import Mixup
from pipeline.views.operations.pad_crop import PadCrop
from pipeline.views.spec import ViewSpec, render

COUNT, VIEW, EPOCH, PAGE = 300, 4, 1, 14
PLAIN = (PadCrop(pad_px=1), FlipHorizontal(probability=0.5))
SPECS = {
    "one image": ViewSpec(seed=5, plain_first=False, operations=PLAIN),
    "mixup": ViewSpec(seed=5, plain_first=False, operations=(*PLAIN, Mixup(alpha=1.0, probability=0.8))),
    "cutmix": ViewSpec(seed=5, plain_first=False, operations=(*PLAIN, CutMix(alpha=1.0, probability=0.8))),
}
EACH = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
EACH_MIXED = pytest.mark.parametrize("spec", [SPECS["mixup"], SPECS["cutmix"]], ids=["mixup", "cutmix"])


def numbered(images: SplitInMemory) -> SplitInMemory:
    """Returns images each of a class of its own, so that hard labels show a batch's rows."""
    return SplitInMemory(images.inputs, torch.arange(len(images)), images.sample_ids)


SPLIT = numbered(make_split(COUNT))


def on_disk(folder: Any, split: SplitInMemory) -> SplitOnDisk:
    names = [f"class {number}" for number in range(len(split))]
    write_dataset(folder, "made up", names, dict.fromkeys(("train", "val", "test"), split))
    return ImageDataset(folder).stream("train")


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SplitOnDisk]:
    """Writes a split in inner chunks of a few images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.core.arrays, "CHUNK_BYTES", 2048)
        patch.setattr(pipeline.data.images, "IMAGE_CHUNK_BYTES", 2048)
        yield on_disk(tmp_path_factory.mktemp("data"), SPLIT)


def batches_of(split: Split, spec: ViewSpec, start_step: int = 0, **changes: Any) -> list[Batch]:
    settings: dict[str, Any] = {"view": VIEW, "number": EPOCH, "batch_size": 16, "seed": 3, **changes}
    return list(Epoch(split, spec, **settings).batches(start_step))


def windows_of(window_pages: int) -> Paging:
    return Paging(COUNT, PAGE, window_pages)


def all_same(ours: list[Batch], theirs: list[Batch]) -> bool:
    """Returns whether batches are the same bits."""
    pairs = [(vars(one), vars(other)) for one, other in zip(ours, theirs, strict=True)]
    return all(
        one[name] is other[name] is None or torch.equal(one[name], other[name]) for one, other in pairs for name in one
    )


def rows_of(batches: list[Batch]) -> list[int]:
    return torch.cat([batch.hard_labels for batch in batches]).tolist()


@EACH
@pytest.mark.parametrize("batch_size", [16, 7, 1000])
@pytest.mark.parametrize("share", [WHOLE, Share(1, 3)], ids=["whole", "a share"])
def test_one_window_is_the_epoch_in_memory(
    streamed: SplitOnDisk, spec: ViewSpec, batch_size: int, share: Share
) -> None:
    for start_step in {0, min(5, num_steps(COUNT, batch_size) - 1)}:
        asked: dict[str, Any] = {"start_step": start_step, "batch_size": batch_size, "share": share}
        expected = batches_of(SPLIT, spec, **asked)
        assert len(expected) == num_steps(COUNT, batch_size) - start_step
        assert all_same(batches_of(streamed, spec, **asked), expected)
        assert all_same(batches_of(streamed, spec, paging=windows_of(100), **asked), expected)


@pytest.mark.parametrize("window_pages", [1, 3, 100])
@pytest.mark.parametrize("batch_size", [16, 7, 64, 1000])
def test_every_row_comes_once_but_for_the_rest(streamed: SplitOnDisk, window_pages: int, batch_size: int) -> None:
    batches = batches_of(streamed, SPECS["one image"], batch_size=batch_size, paging=windows_of(window_pages))
    rows, size = rows_of(batches), min(batch_size, COUNT)
    assert [len(batch.inputs) for batch in batches] == [size] * num_steps(COUNT, batch_size)
    assert len(set(rows)) == len(rows) > COUNT - size
    assert rows != sorted(rows)
    views = render(SPLIT.inputs, SPECS["one image"].draw(SPLIT.sample_ids, VIEW), SPECS["one image"])
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), views[rows])


@EACH
def test_an_epoch_in_windows_is_taken_up_at_any_step_and_shared(streamed: SplitOnDisk, spec: ViewSpec) -> None:
    paging = windows_of(3)
    whole = batches_of(streamed, spec, paging=paging)
    for start_step in (1, 5, 17, 18):
        assert all_same(batches_of(streamed, spec, start_step, paging=paging), whole[start_step:])
    parts = [batches_of(streamed, spec, 2, paging=paging, share=Share(rank, 3)) for rank in range(3)]
    for expected, *shares in zip(whole[2:], *parts, strict=True):
        assert [len(share.inputs) for share in shares] == [5, 5, 6]
        assert torch.equal(torch.cat([share.inputs for share in shares]), expected.inputs)


def test_each_epoch_goes_through_the_pages_in_another_order(streamed: SplitOnDisk) -> None:
    orders = [rows_of(batches_of(streamed, SPECS["one image"], number=n, paging=windows_of(3))) for n in range(3)]
    assert len({tuple(sorted({row // PAGE for row in order[: 2 * PAGE]})) for order in orders}) == 3


@EACH_MIXED
@pytest.mark.parametrize("repeated", [False, True])
def test_images_are_mixed_with_others_of_their_window(tmp_path: Any, spec: ViewSpec, repeated: bool) -> None:
    """Counts a repeated image where it stands first, though that may be in another window."""
    rows = np.array([*range(200), *(range(0, 200, 2) if repeated else range(200, 300))])
    split = numbered(SplitInMemory(SPLIT.inputs[rows], SPLIT.hard_labels[rows], SPLIT.sample_ids[rows]))
    draws, paging = spec.draw(split.sample_ids, VIEW), windows_of(4)
    ids_beside = {
        row: {int(split.sample_ids[other]) for other_page in pages for other in other_page}
        for pages in paging.windows(EPOCH, seed=3)
        for page in pages
        for row in page
    }
    batches = batches_of(on_disk(tmp_path, split), spec, paging=paging)
    assert len(batches) == COUNT // 16
    for batch in batches:
        own, partners = batch.hard_labels, batch.partner_labels
        assert partners is not None
        expected = render(split.inputs[own], draws[own], spec, split.inputs[partners], draws[partners])
        assert torch.equal(batch.inputs, expected)
        for row, partner in zip(own.tolist(), partners.tolist(), strict=True):
            assert split.sample_ids[row] != split.sample_ids[partner]
            assert int(split.sample_ids[partner]) in ids_beside[row]


@EACH_MIXED
def test_the_ids_of_a_split_are_sorted_once_for_all_its_windows(
    streamed: SplitOnDisk, spec: ViewSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    sorted_rows, real = [], np.argsort
    monkeypatch.setattr(np, "argsort", lambda ids, **more: (sorted_rows.append(len(ids)), real(ids, **more))[1])
    streamed._index = SampleIndex(streamed.sample_ids)
    for number in range(3):
        batches_of(streamed, spec, number=number, paging=windows_of(1))
    assert sorted_rows.count(COUNT) == 1
    assert max(rows for rows in sorted_rows if rows != COUNT) <= max(PAGE, -(-COUNT // PAGE))  # of a window, of pages
