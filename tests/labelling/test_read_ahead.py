"""Images on disk that are labelled block by block: read once, two ranges at a time, to the bytes of
a dump from memory.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split
from project import files_of
from stores import CLASSES, FLOAT16, UINT8, content, take
from teachers import USER_FILE, edit_params, make_project
from test_labelling import EACH_MIXED, Row, begin, finish, oracle, run

import pipeline.core.arrays
import pipeline.data.budget
import pipeline.data.images
from pipeline.core.command import run_stage
from pipeline.core.errors import DataError
from pipeline.data.dataset import ImageDataset
from pipeline.data.images import HeldImages, StoredImages
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.dump import dump_labels
from pipeline.labelling.read_ahead import ReadAhead
from pipeline.preparation.write import write_dataset
from stages import dump_labels as dump_stage
from stages import train_teacher

SPLIT = take([*range(40), 3, 3, 17, *range(40, 60)], make_split(60, classes=6))  # some images are there several times
RANGES = [range(0, 20), range(20, 40), range(40, 60), range(60, len(SPLIT))]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes chunks of 7 images."""
    monkeypatch.setattr(pipeline.core.arrays, "CHUNK_BYTES", 1024)
    monkeypatch.setattr(pipeline.data.images, "IMAGE_CHUNK_BYTES", 1024)


@pytest.fixture
def streamed(tmp_path: Path) -> SplitOnDisk:
    return on_disk(tmp_path / "prepare", SPLIT)


def on_disk(folder: Path, split: SplitInMemory) -> SplitOnDisk:
    write_dataset(folder, "made up", tuple(CLASSES), {"train": split, "val": split, "test": split})
    return ImageDataset(folder).stream("train")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[range]:
    """Records the ranges that are asked of what is on disk, as they are asked."""
    asked: list[range] = []
    read = pipeline.data.images._Numbers.read

    def told(self: StoredImages, rows: range, kept: Any = None) -> np.ndarray:
        asked.append(rows)
        return read(self, rows, kept)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline.data.images._Numbers, "read", told)
    return asked


@pytest.mark.parametrize("rows", [[], [5], [62, 0, 61, 0, 30], [*range(20, 45)], [9, 8, 7]])
def test_any_rows_are_taken_in_their_order(streamed: SplitOnDisk, rows: list[int]) -> None:
    chosen = np.array(rows, dtype=np.int64)
    some, expected = streamed.take(chosen), take(chosen, SPLIT)
    assert torch.equal(some.inputs, expected.inputs)
    assert torch.equal(some.hard_labels, expected.hard_labels)
    assert np.array_equal(some.sample_ids, expected.sample_ids)


def test_each_chunk_is_read_once_however_rows_are_ordered(streamed: SplitOnDisk, reads: list[range]) -> None:
    streamed.take(np.array([60, 1, 3, 61, 0, 22, 2], dtype=np.int64))
    assert reads == [range(0, 4), range(22, 23), range(60, 62)]


def test_rows_that_are_held_are_not_read_again_and_others_are(streamed: SplitOnDisk, reads: list[range]) -> None:
    held = streamed.holding(range(20, 40))
    assert reads == [range(20, 40)]
    assert torch.equal(held.take(np.arange(20, 40)).inputs, SPLIT.inputs[20:40])
    assert reads == [range(20, 40)]
    mixed = np.array([41, 25, 0, 39])
    assert torch.equal(held.take(mixed).inputs, SPLIT.inputs[mixed])
    assert len(reads) == 3


def test_the_next_range_is_read_while_one_is_in_use_and_no_more_than_two_are_held(
    streamed: SplitOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = {rows: threading.Event() for rows in RANGES}
    alive: set[range] = set()
    most = 0

    class Counted(HeldImages):
        def __init__(self, images: StoredImages, rows: range, given_up: Callable[[], bool]) -> None:
            nonlocal most
            alive.add(rows)
            most = max(most, len(alive))
            super().__init__(images, rows, given_up)
            begun[rows].set()

        def __del__(self) -> None:
            alive.discard(self._rows)

    monkeypatch.setattr("pipeline.data.split_on_disk.HeldImages", Counted)
    with ReadAhead(streamed, RANGES) as ahead:
        for number, rows in enumerate(RANGES):
            held = ahead.holding(rows)
            assert held is ahead.holding(rows)
            assert torch.equal(held.take(np.array(rows)).inputs, SPLIT.inputs[rows.start : rows.stop])  # type: ignore[union-attr]
            if number + 1 < len(RANGES):
                assert begun[RANGES[number + 1]].wait(20)
            del held
    assert most == 2


def test_a_range_out_of_turn_is_right_too(streamed: SplitOnDisk) -> None:
    with ReadAhead(streamed, RANGES) as ahead:
        for rows in (RANGES[0], RANGES[3], RANGES[1], RANGES[0]):
            held = ahead.holding(rows)
            assert torch.equal(held.take(np.array(rows)).inputs, SPLIT.inputs[rows.start : rows.stop])  # type: ignore[union-attr]


def test_what_is_in_memory_is_given_as_it_is() -> None:
    with ReadAhead(SPLIT, RANGES) as ahead:
        assert ahead.holding(RANGES[2]) is SPLIT


def test_damage_is_told_when_its_turn_comes(tmp_path: Path) -> None:
    split = on_disk(tmp_path / "prepare", SPLIT)
    wrong = take(range(len(SPLIT)), SPLIT)
    wrong.inputs[45] += 1
    split._images = on_disk(tmp_path / "wrong", wrong)._images
    with ReadAhead(split, RANGES) as ahead:
        ahead.holding(RANGES[0])
        ahead.holding(RANGES[1])
        with pytest.raises(DataError, match="not those of their sample ids"):
            ahead.holding(RANGES[2])


@EACH_MIXED
@pytest.mark.parametrize("kind", [FLOAT16, UINT8], ids=["float16", "uint8"])
def test_a_dump_from_disk_has_the_bytes_of_one_from_memory(
    tmp_path: Path, streamed: SplitOnDisk, kind: Row, views: Row
) -> None:
    paths = []
    for split in (SPLIT, streamed):
        target = begin(tmp_path / f"{type(split).__name__}.zarr", kind, SPLIT, range(3), views=views, block_samples=16)
        run(oracle()[0], [target], split)  # type: ignore[arg-type]
        paths.append(finish(target).path)
    assert content(paths[0]) == content(paths[1])


def test_images_are_read_once_for_all_views_of_a_range(
    tmp_path: Path, streamed: SplitOnDisk, reads: list[range]
) -> None:
    target = begin(tmp_path / "x.zarr", UINT8, SPLIT, range(5), block_samples=16)
    manifest = target.writer.manifest
    blocks = sorted(manifest.blocks(), key=lambda block: (block.rows.start, block.view_index))
    dump_labels(oracle()[0], streamed, blocks, [target], lambda count: None)
    assert reads == [range(start, min(start + 16, len(SPLIT))) for start in range(0, len(SPLIT), 16)]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Makes images of 9.2 kB, in which a megabyte has 10,000 bytes."""
    (tmp_path / "quarters.py").write_text(USER_FILE)
    folder = make_project(tmp_path, {"model": f"{tmp_path}/quarters.py:build", "model_settings": {}}, epochs=1)
    monkeypatch.chdir(folder)
    train_teacher.main()
    edit_params(folder, "dump_labels", block_samples=8, batch_size=4)
    return folder


def dumped(folder: Path, name: str, megabytes: int) -> dict[str, Any]:
    edit_params(folder, "dump_labels", memory_budget_mb=megabytes)
    dump_stage.main(out=folder / name, work=folder / f"{name}-work")
    return files_of(folder / name)


def test_the_stage_reads_from_disk_what_the_budget_does_not_hold(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = dumped(project, "held", 4096)
    assert "streamed" not in capsys.readouterr().err
    monkeypatch.setattr(pipeline.data.budget, "_MEGABYTE", 10_000)
    assert dumped(project, "streamed", 1) == expected
    told = capsys.readouterr().err
    assert (
        "dump_labels.memory_budget_mb: inputs take 1 MB, more than three quarters of 1 MB, so they are streamed" in told
    )


def test_the_stage_reads_each_image_once_for_all_views(
    project: Path, monkeypatch: pytest.MonkeyPatch, reads: list[range]
) -> None:
    monkeypatch.setattr(pipeline.data.budget, "_MEGABYTE", 10_000)
    edit_params(project, "dump_labels", pilot_labels=1, num_canaries=1, num_views=3)
    reads.clear()
    dumped(project, "streamed", 1)
    first, *blocks = [rows for rows in reads if len(rows) > 1]
    assert first == range(8), "the network is tried on these"
    assert sorted((rows.start, rows.stop) for rows in blocks) == cut_at_chunks(64, 8)


def cut_at_chunks(count: int, size: int) -> list[tuple[int, int]]:
    """Returns the ranges in which blocks are read: all of one in a piece."""
    return [(start, start + size) for start in range(0, count, size)]


def test_a_range_is_read_in_pieces_that_end_with_chunks_and_no_longer_than_it_is_wanted(
    streamed: SplitOnDisk, monkeypatch: pytest.MonkeyPatch, reads: list[range]
) -> None:
    monkeypatch.setattr(pipeline.data.images, "_READ_BYTES", 2 * 7 * 144)
    held = streamed.holding(range(10, 40))
    assert reads == [range(10, 14), range(14, 28), range(28, 40)]
    assert torch.equal(held.take(np.arange(10, 40)).inputs, SPLIT.inputs[10:40])
    reads.clear()
    streamed.holding(range(10, 40), lambda: len(reads) == 1)
    assert reads == [range(10, 14)]


def test_a_budget_that_does_not_hold_two_blocks_is_refused_in_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline.data.budget, "_MEGABYTE", 1_000)
    monkeypatch.setattr("sys.argv", ["dump_labels"])
    edit_params(project, "dump_labels", memory_budget_mb=5)
    with pytest.raises(SystemExit) as left:
        run_stage(dump_stage.main)
    assert left.value.code == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == (
        "error: params.yaml: dump_labels.memory_budget_mb: 5 MB; expected at least 6 for two blocks of 8 inputs and batches "
        "of 4; raise it, or lower block_samples or batch_size"
    )
