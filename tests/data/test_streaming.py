"""Data streamed from disk: the samples and labels that memory has, each once, within a budget."""

import os
import random
import shutil
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split
from faults import ended, fork, wait_for
from project import files_of, small_params, student, write_params
from stores import ANCHORED, CLASSES, FLOAT16, NONE, REST, SPEC, UINT8, Row, logits_of, make, take
from teachers import edit_params

import pipeline.core.arrays
import pipeline.data.images
import pipeline.student.labelled_views
from pipeline.core.arrays import rows_in_chunk
from pipeline.core.errors import ConfigError, DataError, PipelineError, StoreError, one_line_errors
from pipeline.core.threads import Pause
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.images import IMAGE_CHUNK_BYTES
from pipeline.data.opening import open_splits
from pipeline.data.paging import Paging, window_order
from pipeline.data.sample_ids import SampleIndex
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.data.splits import Split, SplitInMemory
from pipeline.data.windows import Page, read_windows
from pipeline.labels.join import ViewLabels, label_bytes
from pipeline.labels.reader import StoreReader
from pipeline.labels.targets import SparseTargets
from pipeline.preparation.write import write_dataset
from pipeline.student.batches import LabelledBatch
from pipeline.student.labelled_views import LabelledViews, Placement, shared_batches
from pipeline.views.operations.flips import FlipHorizontal
from pipeline.views.operations.mixup import Mixup
from pipeline.views.operations.pad_crop import PadCrop
from pipeline.views.spec import ViewSpec, render
from stages import train_student

SPLIT = make_split(300, classes=6)
VAL = make_split(50, classes=6, seed=1)
VIEWS = [4, 0, 7]
BATCH = 16
KILLS = 8
PAGE = 14  # rows in 2 kB
MIXED = ViewSpec(
    seed=5,
    plain_first=False,
    operations=(PadCrop(pad_px=1), FlipHorizontal(probability=0.5), Mixup(alpha=1.0, probability=0.8)),
)
OTHERS = make_split(300, classes=6, seed=2)
BOTH = SplitInMemory(
    torch.cat([OTHERS.inputs, SPLIT.inputs]),
    torch.cat([OTHERS.hard_labels, SPLIT.hard_labels]),
    np.concatenate([OTHERS.sample_ids, SPLIT.sample_ids]),
)
SHUFFLED = np.random.default_rng(0).permutation(len(BOTH))


@pytest.fixture(scope="module", autouse=True)
def small_chunks() -> Iterator[None]:
    """Makes inner chunks of a few images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.core.arrays, "CHUNK_BYTES", 2048)
        patch.setattr(pipeline.data.images, "IMAGE_CHUNK_BYTES", 2048)
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, small_chunks: None) -> ImageDataset:
    folder = tmp_path_factory.mktemp("data") / "prepare"
    write_dataset(folder, "made up", tuple(CLASSES), {"train": SPLIT, "val": VAL, "test": VAL})
    return ImageDataset(folder)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, small_chunks: None) -> dict[str, StoreReader]:
    folder = tmp_path_factory.mktemp("stores")
    rows = {"dense": FLOAT16, "dense8": UINT8, "rest": REST, "anchored": ANCHORED, "none": NONE}
    made = {name: make(folder / f"{name}.zarr", row, SPLIT, VIEWS, block_samples=64) for name, row in rows.items()}
    shuffled, mixed = take(SHUFFLED, BOTH), {"views": MIXED.to_dict(), "block_samples": 64}
    made["shuffled"] = make(folder / "shuffled.zarr", FLOAT16, shuffled, VIEWS, block_samples=64)
    made["mixed"] = make(folder / "mixed.zarr", FLOAT16, SPLIT, VIEWS, **mixed)
    made["mixed shuffled"] = make(
        folder / "mixed_shuffled.zarr", FLOAT16, take(range(299, -1, -1), SPLIT), VIEWS, **mixed
    )
    return made


@pytest.fixture
def copied(dataset: ImageDataset, tmp_path: Path) -> ImageDataset:
    """Returns a copy to be damaged."""
    return ImageDataset(Path(shutil.copytree(dataset.folder, tmp_path / "prepare")))


def budget_of(window_pages: int, batch_size: int = BATCH) -> MemoryBudget:
    """Returns a budget for windows of so many of the smallest pages."""
    return MemoryBudget(4 * window_pages * PAGE * (144 + 256) + 5 * batch_size * 144, batch_size, "budget")


def opened(split: Split, store: StoreReader, temperature: float | None = 2.0, window_pages: int = 3) -> LabelledViews:
    return LabelledViews(split, store, CLASSES, temperature, Placement(budget=budget_of(window_pages)))


def epoch_of(
    views: LabelledViews, epoch: int = 1, start_step: int = 0, batch_size: int = BATCH
) -> Iterator[LabelledBatch]:
    return views.batches(epoch, start_step, batch_size=batch_size, seed=3)


def rows_of(batches: Sequence[LabelledBatch], view: int) -> list[int]:
    """Returns the rows of the split that some views are of."""
    rendered = render(SPLIT.inputs, SPEC.draw(SPLIT.sample_ids, view), SPEC)
    place = {image.numpy().tobytes(): row for row, image in enumerate(rendered)}
    return [place[image.numpy().tobytes()] for batch in batches for image in batch.inputs]


def same(one: LabelledBatch, other: LabelledBatch) -> bool:
    """Returns whether two batches are the same bits."""

    def parts(batch: LabelledBatch) -> list[torch.Tensor]:
        targets: Any = batch.soft_targets
        if isinstance(targets, SparseTargets):
            targets = torch.cat([targets.classes, targets.log_probs], dim=1)
        there = [batch.inputs, batch.hard_labels, targets, batch.partner_labels, batch.own_shares]
        return [torch.tensor(batch.epoch), *(tensor for tensor in there if tensor is not None)]

    return all(torch.equal(a, b) for a, b in zip(parts(one), parts(other), strict=True))


def no_thread_is_left() -> bool:
    return not any(thread.name.startswith("read-ahead") for thread in threading.enumerate())


# What an epoch is made of.


@pytest.mark.parametrize("window_pages", [1, 3, 100])
@pytest.mark.parametrize("batch_size", [16, 7, 64])
def test_an_epoch_takes_whole_batches_of_each_row_once(
    dataset: ImageDataset, stores: dict[str, StoreReader], window_pages: int, batch_size: int
) -> None:
    views = opened(dataset.stream("train"), stores["none"], None, window_pages)
    batches = list(epoch_of(views, 1, 0, batch_size))
    assert [len(batch.inputs) for batch in batches] == [batch_size] * (300 // batch_size)
    rows = rows_of(batches, VIEWS[1])
    assert len(set(rows)) == len(rows)
    assert no_thread_is_left()


def test_a_split_of_less_than_a_batch_is_one_batch(tmp_path: Path) -> None:
    few = take(range(10), SPLIT)
    write_dataset(tmp_path / "prepare", "made up", tuple(CLASSES), dict.fromkeys(("train", "val", "test"), few))
    store = make(tmp_path / "x.zarr", UINT8, few, VIEWS)
    split = ImageDataset(tmp_path / "prepare").stream("train")
    (batch,) = epoch_of(opened(split, store, window_pages=1))
    assert sorted(rows_of([batch], VIEWS[1])) == list(range(10))


@pytest.mark.parametrize("window_pages", [1, 4])
def test_each_epoch_has_another_order_of_pages_and_of_rows(
    dataset: ImageDataset, stores: dict[str, StoreReader], window_pages: int
) -> None:
    views = opened(dataset.stream("train"), stores["none"], None, window_pages)
    orders = [rows_of(list(epoch_of(views, epoch)), VIEWS[epoch % 3]) for epoch in range(3)]
    window = max(1, window_pages - 1) * PAGE  # one may be short
    firsts = [tuple(sorted(row // PAGE for row in order[:window])) for order in orders]
    assert len(set(map(tuple, orders))) == len(set(firsts)) == 3
    for order in orders:
        within = np.array(order[:window])
        assert len(set(within // PAGE)) <= window_pages
        assert (np.diff(within) < 0).sum() > len(within) // 4  # shuffled


@pytest.mark.parametrize("count", [1, 15, 600])
@pytest.mark.parametrize("page_rows", [1, 7, 600, 1000])
@pytest.mark.parametrize("window_pages", [1, 2, 50])
def test_windows_hold_every_row_once_and_are_of_even_size(count: int, page_rows: int, window_pages: int) -> None:
    paging = Paging(count, page_rows, window_pages)
    windows = paging.windows(epoch=2, seed=0)
    assert sorted(row for pages in windows for page in pages for row in page) == list(range(count))
    assert max(sum(map(len, pages)) for pages in windows) <= paging.window_rows
    assert max(map(len, windows)) - min(map(len, windows)) <= 1


def test_rows_of_a_window_come_as_they_do_in_memory() -> None:
    whole = window_order(np.arange(100), epoch=3, seed=1)
    rows = np.array([3, 4, 5, 50, 51, 52, 97])
    np.testing.assert_array_equal(rows[window_order(rows, epoch=3, seed=1)], whole[np.isin(whole, rows)])


@pytest.mark.parametrize("name", ["dense", "anchored", "rest", "shuffled"])
@pytest.mark.parametrize("held", [True, False])
def test_a_sample_has_the_pixels_and_labels_that_it_has_in_memory(
    dataset: ImageDataset, stores: dict[str, StoreReader], name: str, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not held:
        if name == "shuffled":
            pytest.skip("labels in another order must be held")
        monkeypatch.setattr(pipeline.labels.join, "choose_held", lambda stores: [False] * len(stores))
    streamed = opened(dataset.stream("train"), stores[name])
    for epoch in range(3):
        batches = list(epoch_of(streamed, epoch))
        rows = rows_of(batches, VIEWS[epoch])
        assert torch.equal(torch.cat([batch.hard_labels for batch in batches]), SPLIT.hard_labels[rows])
        exact = torch.log_softmax(logits_of(SPLIT.sample_ids[rows], VIEWS[epoch]) / 2.0, dim=1)
        for batch, expected in zip(batches, exact.split(BATCH), strict=True):
            assert batch.epoch == epoch
            if isinstance(batch.soft_targets, SparseTargets):
                assert torch.equal(batch.soft_targets.classes[:, 0], expected.argmax(dim=1))
            elif name == "anchored":
                assert torch.equal(batch.soft_targets.argmax(dim=1), expected.argmax(dim=1))
            else:
                torch.testing.assert_close(batch.soft_targets, expected, rtol=0.01, atol=0.005)


@pytest.mark.parametrize("name", ["dense", "rest", "anchored", "none"])
def test_labels_take_the_memory_that_is_reckoned_for_them(stores: dict[str, StoreReader], name: str) -> None:
    held = stores[name].read_view(0)
    assert label_bytes(stores[name]) == sum(values.numpy().nbytes for values in held.values())


@pytest.mark.parametrize("name", ["dense", "anchored", "mixed"])
def test_one_window_that_holds_all_is_the_epoch_in_memory(
    dataset: ImageDataset, stores: dict[str, StoreReader], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryBudget, "paging", lambda *arguments: Paging.whole(len(SPLIT)))
    streamed, in_memory = opened(dataset.stream("train"), stores[name]), opened(SPLIT, stores[name])
    for ours, theirs in zip(epoch_of(streamed, 2), epoch_of(in_memory, 2), strict=True):
        assert same(ours, theirs)


@pytest.mark.parametrize(("name", "decoded"), [("dense", 1), ("dense", 64), ("rest", 3), ("mixed", 3)])
def test_an_epoch_taken_up_at_any_step_is_the_rest_of_it(
    dataset: ImageDataset, stores: dict[str, StoreReader], name: str, decoded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.student.labelled_views, "_DECODED_BATCHES", decoded)
    whole = list(epoch_of(opened(dataset.stream("train"), stores[name], window_pages=6), 1))
    for start in (1, 2, 7, 17, 18):
        rest = list(epoch_of(opened(dataset.stream("train"), stores[name], window_pages=6), 1, start))
        assert len(rest) == len(whole) - start
        assert all(same(ours, theirs) for ours, theirs in zip(rest, whole[start:], strict=True))


def test_an_epoch_taken_up_late_reads_nothing_of_what_went_before(
    dataset: ImageDataset, stores: dict[str, StoreReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    views = opened(dataset.stream("train"), stores["dense"])
    numbers = pipeline.data.images._Numbers
    real, reads = numbers.read, list[range]()
    monkeypatch.setattr(numbers, "read", lambda *of: (reads.append(of[1]), real(*of))[1])
    list(epoch_of(views, 1, 17))
    last = views.joined.paging.windows(1, 3)[-2:]
    assert {page for pages in last for page in pages} >= set(reads)
    reads.clear()
    list(epoch_of(views, 1))
    assert sorted(reads, key=lambda page: page.start) == views.joined.paging.pages()  # each once


# Several students in one pass.


@pytest.mark.parametrize("streamed", [False, True])
def test_students_in_one_pass_get_the_batches_that_each_would_have_alone(
    dataset: ImageDataset, stores: dict[str, StoreReader], streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = dataset.stream("train") if streamed else SPLIT
    several = [
        opened(split, stores[name], temperature)
        for name, temperature in (("dense", 1.0), ("dense", 1.0), ("dense", 4.0), ("rest", 2.0), ("none", None))
    ]
    alone = [list(epoch_of(views, 2, 3)) for views in several]
    reads, decodings = [], []
    real_read, real_targets = ViewLabels.__init__, stores["dense"].codec.targets
    monkeypatch.setattr(
        ViewLabels, "__init__", lambda *a, **k: (reads.append(a[1].store.location), real_read(*a, **k))[1]
    )
    monkeypatch.setattr(
        stores["dense"].codec, "targets", lambda fields, t: (decodings.append(t), real_targets(fields, t))[1]
    )
    together = list(shared_batches(several, 2, 3, batch_size=BATCH, seed=3))
    assert len(together) == 300 // BATCH - 3
    for step, batches in enumerate(together):
        assert len({id(batch.inputs) for batch in batches}) == 1
        assert all(same(batch, alone[number][step]) for number, batch in enumerate(batches))
    assert sorted(reads) == sorted({stores["dense"].location, stores["rest"].location})
    assert decodings.count(1.0) == decodings.count(4.0)


# Views of two images.


def test_mixed_views_are_those_of_memory_though_a_partner_stands_in_another_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that repeat have the partner of the first of them."""
    rows = [*range(200), *range(0, 200, 4)]
    split, spec = take(rows, SPLIT), {"views": MIXED.to_dict(), "block_samples": 32}
    write_dataset(tmp_path / "prepare", "made up", tuple(CLASSES), {"train": split, "val": VAL, "test": VAL})
    store = make(tmp_path / "x.zarr", FLOAT16, split, VIEWS, **spec)

    def views_of(views: LabelledViews) -> tuple[list[tuple[Any, ...]], torch.Tensor]:
        views_and_targets = sorted(
            ((image.numpy().tobytes(), int(own), int(other), float(share)), target.tolist())
            for batch in epoch_of(views, 1, batch_size=10)
            for image, own, other, share, target in zip(
                batch.inputs,
                batch.hard_labels,
                batch.partner_labels,
                batch.own_shares,
                batch.soft_targets,  # type: ignore[arg-type]
                strict=True,
            )
        )
        return [view for view, _ in views_and_targets], torch.tensor([targets for _, targets in views_and_targets])

    alone: list[int] = []
    real = SplitOnDisk.take
    monkeypatch.setattr(SplitOnDisk, "take", lambda s, chosen: (alone.extend(chosen), real(s, chosen))[1])
    streamed = opened(ImageDataset(tmp_path / "prepare").stream("train"), store, window_pages=7)
    assert streamed.joined.paging.page_rows == 32
    alone.clear()  # canaries
    in_memory = LabelledViews(split, store, CLASSES, 2.0)
    (ours, our_targets), (theirs, their_targets) = views_of(streamed), views_of(in_memory)
    assert len(ours) == len(split)
    assert ours == theirs
    torch.testing.assert_close(our_targets, their_targets)
    assert 0 < len(alone) <= 50


def test_mixed_views_in_another_order_than_the_data_can_not_be_streamed(
    dataset: ImageDataset, stores: dict[str, StoreReader]
) -> None:
    with pytest.raises(StoreError, match=r"rows are in another order than the data's; expected .* raise memory_"):
        opened(dataset.stream("train"), stores["mixed shuffled"], window_pages=20)
    opened(SPLIT, stores["mixed shuffled"])


def test_ids_are_sorted_once_for_all_windows_of_mixed_views(
    dataset: ImageDataset, stores: dict[str, StoreReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    sortings, real = [], SampleIndex.__init__
    monkeypatch.setattr(SampleIndex, "__init__", lambda self, ids: (sortings.append(len(ids)), real(self, ids))[1])
    views = opened(dataset.stream("train"), stores["mixed"], window_pages=6)
    before = len(sortings)
    assert len(views.joined.paging.windows(0, 3)) == 5
    for epoch in range(3):
        list(epoch_of(views, epoch))
    assert len(sortings) == before


# The budget.


def test_no_more_is_held_than_the_budget_says(tmp_path: Path) -> None:
    """Counts as Python and numpy do, with the pages on their way; the data set is four times as
    large.
    """
    big = make_split(10_000, shape=(1, 20, 20), classes=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.data.images, "IMAGE_CHUNK_BYTES", 8192)
        write_dataset(tmp_path / "prepare", "made up", tuple(CLASSES), dict.fromkeys(("train", "val", "test"), big))
        store = make(tmp_path / "x.zarr", FLOAT16, big, [0], block_samples=512)
    split, budget = ImageDataset(tmp_path / "prepare").stream("train"), MemoryBudget(1_000_000, BATCH, "budget")
    for held in (True, False):
        views = LabelledViews(split, store, CLASSES, 1.0, Placement(budget=budget))
        with pytest.MonkeyPatch.context() as patch:
            if not held:
                patch.setattr(pipeline.labels.join, "choose_held", lambda stores: [False])
            next(epoch_of(views))  # what is imported and opened once
            tracemalloc.start()
            try:
                for _ in islice(epoch_of(views), 100):
                    pass
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert views.joined.paging.windows(0, 0)[1:], "there are windows"
        assert peak < budget.num_bytes


def test_no_more_than_two_windows_are_in_memory() -> None:
    pages, live, most = [[range(n, n + 1)] for n in range(20)], {0}, 0

    def read(asked: Iterator[Page | Pause]) -> Generator[dict[str, np.ndarray], None, None]:
        nonlocal most
        for page in asked:
            if isinstance(page, Page):
                live.add(page.rows.start)
                most = max(most, len(live))
                yield {"x": np.array([page.rows.start])}

    live.clear()
    for number, columns in enumerate(read_windows(pages, read)):
        time.sleep(0.002)
        assert columns["x"].tolist() == [number]
        assert live <= {number, number + 1}
        live.discard(number)
    assert most == 2


@pytest.mark.parametrize(
    ("input_bytes", "megabytes", "page_rows", "least_pages"),
    [
        (784, 20, 1337, 3),  # a chunk, whatever a window holds
        (12_288, 2048, 85, 400),  # a megabyte
        (150_528, 2048, 60, 50),  # in six of their rows lie few of a chunk's files and labels
        (150_528, 200, 6, 16),  # no more where windows are small
    ],
)
def test_pages_are_a_megabyte_and_64_rows_where_a_window_holds_enough_of_them(
    input_bytes: int, megabytes: int, page_rows: int, least_pages: int
) -> None:
    budget = MemoryBudget.of_megabytes(megabytes, 128, "params.yaml: students.small.memory_budget_mb")
    paging = budget.paging(input_bytes, 1_000_000, rows_in_chunk(1_000_000, input_bytes, IMAGE_CHUNK_BYTES), None)
    assert paging.page_rows == page_rows
    assert paging.window_pages >= least_pages
    assert paging.window_rows * input_bytes <= megabytes * 1_000_000 / 4


def test_a_budget_that_is_too_small_is_told_the_least_that_works(tmp_path: Path) -> None:
    wide = make_split(40, shape=(1, 300, 400), classes=6)
    write_dataset(tmp_path / "prepare", "made up", tuple(CLASSES), dict.fromkeys(("train", "val", "test"), wide))
    store = make(tmp_path / "x.zarr", UINT8, wide, VIEWS)
    split = ImageDataset(tmp_path / "prepare").stream("train")

    def views(megabytes: int) -> LabelledViews:
        budget = MemoryBudget.of_megabytes(megabytes, 8, "params.yaml: students.small.memory_budget_mb")
        return LabelledViews(split, store, CLASSES, 1.0, Placement(budget=budget))

    least = -(-(4 * (120_000 + 256) + 5 * 8 * 120_000) // 1_000_000)
    line = rf"memory_budget_mb: {least - 1} MB; expected at least {least} for batches of 8 and windows of 1 inputs"
    with pytest.raises(ConfigError, match=line):
        views(least - 1)
    assert len(list(epoch_of(views(least), batch_size=8))) == 5


def test_data_is_streamed_where_it_takes_more_than_three_quarters_of_the_budget(
    dataset: ImageDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    images = 350 * 144
    for budget, streamed in ((images * 4 // 3 + 2, False), (images * 4 // 3 - 2, True)):
        splits = open_splits(dataset, MemoryBudget(budget, BATCH, "here"), 0)
        assert [isinstance(split, SplitOnDisk) for split in splits] == [streamed] * 2
    assert "here: inputs take 0 MB, more than three quarters of" in capsys.readouterr().err
    open_splits(dataset, MemoryBudget(2_000_000, BATCH, "here"), 2_000_000 - images)
    with pytest.raises(ConfigError, match="here: 2 MB; expected at least 3 for the inputs and one view's labels"):
        open_splits(dataset, MemoryBudget(2_000_000, BATCH, "here"), 2_000_001 - images)


def test_validation_is_read_in_pieces_that_fit(dataset: ImageDataset) -> None:
    for at_most, budget in ((500, budget_of(1)), (7, budget_of(50))):
        pieces = list(dataset.stream("val").in_order(at_most, budget=budget))
        assert torch.equal(torch.cat(pieces), VAL.inputs)
        assert max(map(len, pieces)) * 144 <= budget.share(dataset.manifest.bytes_each)
    assert [len(piece) for piece in VAL.in_order(20)] == [20, 20, 10]


# Stores in another order.


def test_labels_in_another_order_are_held_where_they_fit_and_refused_where_not(
    dataset: ImageDataset, stores: dict[str, StoreReader]
) -> None:
    opened(dataset.stream("train"), stores["shuffled"], window_pages=3)
    line = r"shuffled\.zarr: its rows are in another order .* memory_budget_mb of at least 1; .*derive_labels subset"
    with pytest.raises(StoreError, match=line):
        opened(dataset.stream("train"), stores["shuffled"], window_pages=1)
    opened(dataset.stream("train"), stores["shuffled"], None, window_pages=1)  # nothing is read


def test_a_store_of_more_images_and_other_blocks_is_read_page_by_page(tmp_path: Path, dataset: ImageDataset) -> None:
    """Needs the rows of a page side by side, and no more; its labels do not fit as a whole."""
    pages = [np.arange(start, min(start + PAGE, 300)) for start in range(0, 300, PAGE)]
    order = np.concatenate([pages[number] for number in np.random.default_rng(0).permutation(len(pages))])
    store = make(tmp_path / "x.zarr", FLOAT16, take([*range(300), *300 + order], BOTH), VIEWS, block_samples=50)
    views = opened(dataset.stream("train"), store, window_pages=1)
    batches = list(epoch_of(views))
    exact = torch.log_softmax(logits_of(SPLIT.sample_ids[rows_of(batches, 0)], 0) / 2.0, dim=1)
    found = torch.cat([batch.soft_targets for batch in batches])  # type: ignore[misc]
    torch.testing.assert_close(found, exact, rtol=0.005, atol=0.005)


def test_labels_too_large_for_the_budget_are_told_what_they_need(
    dataset: ImageDataset, stores: dict[str, StoreReader]
) -> None:
    several = [opened(dataset.stream("train"), stores["dense"], t, window_pages=1) for t in (1.0,)]
    several.append(LabelledViews(several[0].split, stores["dense8"], CLASSES, 1.0, Placement(budget=budget_of(1))))
    several[0].split._images.shape = (1, 1, 1)  # type: ignore[attr-defined]
    several[0].joined.budget = MemoryBudget(400, BATCH, "budget")
    with pytest.raises(ConfigError, match=r"budget: 0\.0004 MB, too little for the labels of .*dense\.zarr; expected"):
        next(iter(shared_batches(several, 0, 0, batch_size=BATCH, seed=0)))


# What goes wrong.


def image_files(dataset: ImageDataset) -> list[Path]:
    return [path for path in (dataset.folder / "train.zarr/images/c").rglob("*") if path.is_file()]


@pytest.mark.parametrize("damage", ["lost", "empty"])
def test_a_lost_file_is_seen_when_the_split_is_opened(copied: ImageDataset, damage: str) -> None:
    image_files(copied)[0].unlink() if damage == "lost" else image_files(copied)[0].write_bytes(b"")
    with pytest.raises(StoreError, match=r"train\.zarr/images: lacks its file c/0/0/0/0") as error:
        copied.stream("train")
    assert "\n" not in str(error.value)
    copied.stream("val")


def test_other_labels_or_ids_than_the_manifests_are_refused_when_the_split_is_opened(copied: ImageDataset) -> None:
    for name in ("hard_labels", "sample_ids"):
        shutil.rmtree(copied.folder / "train.zarr" / name)
        shutil.copytree(copied.folder / "val.zarr" / name, copied.folder / "train.zarr" / name)
    with pytest.raises(DataError, match=r"train\.zarr: fingerprint"):
        copied.stream("train")


def lose(file: Path) -> None:
    file.unlink()


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize(("damage", "said"), [(lose, "its file is lost"), (flip, "damaged")])
def test_damage_during_an_epoch_surfaces_in_the_main_thread_in_one_line(
    copied: ImageDataset, stores: dict[str, StoreReader], damage: Callable[[Path], None], said: str
) -> None:
    views = opened(copied.stream("train"), stores["dense"])
    batches = epoch_of(views)
    next(batches)
    damage(image_files(copied)[0])
    with pytest.raises(PipelineError, match=rf"train\.zarr.*{said}") as error:
        list(batches)
    assert "\n" not in str(error.value)
    assert no_thread_is_left()


def test_damaged_labels_surface_too(tmp_path: Path, dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.labels.join, "choose_held", lambda stores: [False] * len(stores))
    views = opened(dataset.stream("train"), make(tmp_path / "x.zarr", FLOAT16, SPLIT, VIEWS, block_samples=64))
    batches = epoch_of(views)
    next(batches)
    for number in range(5):
        lose(tmp_path / f"x.zarr/log_probs/c/1/{number}/0")
    with pytest.raises(StoreError, match=r"x\.zarr/log_probs: block view 0, samples .* is missing"):
        list(batches)
    assert no_thread_is_left()


def test_an_epoch_that_is_given_up_leaves_no_thread(dataset: ImageDataset, stores: dict[str, StoreReader]) -> None:
    views = opened(dataset.stream("train"), stores["dense"])
    batches = epoch_of(views)
    next(batches)
    assert not no_thread_is_left()
    batches.close()  # type: ignore[attr-defined]
    assert no_thread_is_left()
    list(islice(epoch_of(views), 5))
    assert no_thread_is_left()


def test_views_that_are_rendered_otherwise_are_refused_before_the_first_batch(
    dataset: ImageDataset, stores: dict[str, StoreReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    split, reads = dataset.stream("train"), []
    real = SplitOnDisk.take
    monkeypatch.setattr(SplitOnDisk, "take", lambda split, rows: (reads.append(len(rows)), real(split, rows))[1])
    for name in ("dense", "mixed"):
        reads.clear()
        opened(split, stores[name], window_pages=20)
        assert 0 < sum(reads) <= 12  # canaries, and their partners, alone
    monkeypatch.setattr(pipeline.views.plan, "render", lambda images, *others: 255 - render(images, *others))
    with pytest.raises(StoreError, match="6 of 6 views are not what the teacher saw"):
        opened(split, stores["dense"])


# The stage.


def make_project(folder: Path, labels: Row, **settings: Any) -> Path:
    """Writes a data set of 0.9 MB and a student that may hold 1 MB."""
    params = small_params()
    fit = params["train_teacher"]["fit"] | {"epochs": 1, "batch_size": 64, "checkpoint_seconds": 0.05} | settings
    params["students"] = {"small": student(memory_budget_mb=1, labels="x", fit=fit)}
    write_params(folder, params)
    split = make_split(6000, classes=6)
    write_dataset(
        folder / "data/prepare",
        "made up",
        tuple(CLASSES),
        {"train": split, "val": take(range(500), split), "test": VAL},
    )
    make(folder / "data/dump_labels/x.zarr", labels, split, [0, 1], block_samples=512)
    return folder


def run_student(made: Path, folder: Path) -> None:
    data = made / "data"
    train_student.main(
        "small",
        made / "params.yaml",
        data / "prepare",
        str(data / "dump_labels"),
        folder / "data/train_student",
        folder / "reports",
        folder / "work",
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, small_chunks: None) -> Path:
    return make_project(tmp_path_factory.mktemp("project"), UINT8)


def start(project: Path, folder: Path) -> int:
    """Starts the stage in a process of its own; returns its id."""
    folder.mkdir(exist_ok=True)
    (folder / "said.txt").touch()

    def work() -> None:
        with one_line_errors():
            run_student(project, folder)

    return fork(work, folder / "said.txt")


def said_to_go_on(folder: Path) -> int:
    return (folder / "said.txt").read_text().count("going on from epoch")


def wait_for_training(folder: Path, kills: int) -> None:
    """Waits until a process that was killed so often trains again and has left a checkpoint."""
    wait_for(lambda: said_to_go_on(folder) == kills and any(folder.glob("work/*/*.safetensors")))


def test_a_student_killed_at_random_goes_on_to_the_same_bytes(project: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    assert ended(start(project, tmp_path / "whole")) == 0
    seconds = time.monotonic() - began
    said = (tmp_path / "whole/said.txt").read_text()
    assert "students.small.memory_budget_mb: inputs take 1 MB, more than three quarters of 1 MB" in said
    rng, victim = random.Random(0), tmp_path / "victim"
    for kills in range(KILLS):
        process = start(project, victim)
        wait_for_training(victim, kills)
        time.sleep(rng.random() * 1.2 * seconds / KILLS)
        os.kill(process, signal.SIGKILL)
        assert ended(process) in (-signal.SIGKILL, 0)
        if any((victim / "data").rglob("weights.safetensors")):
            break  # it was done before it was killed: the machine was slower when it trained undisturbed
    assert ended(start(project, victim)) == 0
    assert said_to_go_on(victim) >= min(2, kills)
    assert files_of(victim / "data") == files_of(tmp_path / "whole/data")


def test_a_student_that_is_interrupted_ends_at_once_in_one_line(project: Path, tmp_path: Path) -> None:
    made = Path(shutil.copytree(project, tmp_path / "made"))
    edit_params(made, "students.small.fit", epochs=1000)  # not done before it is interrupted
    process = start(made, tmp_path / "x")
    wait_for_training(tmp_path / "x", 0)
    os.kill(process, signal.SIGINT)
    began = time.monotonic()
    assert ended(process) == 130
    assert time.monotonic() - began < 5
    assert (tmp_path / "x/said.txt").read_text().splitlines()[-1].startswith("interrupted: finished work is kept")
