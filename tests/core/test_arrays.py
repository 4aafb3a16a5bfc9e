"""Arrays: what was written is what is read; any damage on disk is an error that names the place."""

import json
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.arrays import ArrayGroup, ArrayLayout
from pipeline.core.errors import StoreError

VIEWS, ROWS, BLOCK = 3, 25, 10
DTYPES = ["uint8", "int64", "uint64", "float16", "float32"]


def noise(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.random.default_rng(0).integers(0, 120, size, dtype=np.uint8).tobytes()  # below 120: no NaN
    return np.frombuffer(raw, dtype).reshape(shape)


def blocks_group(path: Path) -> ArrayGroup:
    group = ArrayGroup.create(path, {"format": "test"})
    group.create_array(
        "labels", (VIEWS, ROWS, 4), np.dtype(np.uint8), fill_value=255, layout=ArrayLayout(row_axis=1, block_rows=BLOCK)
    )
    return group


def written(path: Path) -> tuple[ArrayGroup, np.ndarray]:
    group, data = blocks_group(path), noise((VIEWS, ROWS, 4))
    for view in range(VIEWS):
        for start in range(0, ROWS, BLOCK):
            group.write("labels", data[view, start : start + BLOCK], view, slice(start, min(start + BLOCK, ROWS)))
    return ArrayGroup.open(path, made_by="dump_labels"), data


def block_file(path: Path, view: int, block: int) -> Path:
    return path / "labels" / "c" / str(view) / str(block) / "0"


@settings(deadline=None, max_examples=20, database=None)
@given(
    st.sampled_from(DTYPES), st.integers(1, 40), st.lists(st.integers(1, 4), max_size=2), st.integers(5, 50), st.data()
)
def test_what_is_written_in_blocks_is_read_back_whole_and_in_any_range(
    dtype: str, rows: int, tail: list[int], block: int, data: st.DataObject
) -> None:
    values = noise((2, rows, *tail), dtype)
    with tempfile.TemporaryDirectory() as folder:
        group = ArrayGroup.create(Path(folder) / "x.zarr", {})
        group.create_array(
            "x", values.shape, values.dtype, fill_value=1, layout=ArrayLayout(row_axis=1, block_rows=block)
        )
        for view in range(2):
            for start in range(0, rows, block):
                stop = min(start + block, rows)
                group.write("x", values[view, start:stop], view, slice(start, stop))
        found = ArrayGroup.open(Path(folder) / "x.zarr", made_by="x")
        whole = found.read("x")
        assert whole.dtype == values.dtype
        np.testing.assert_array_equal(whole, values)
        start = data.draw(st.integers(0, rows - 1))
        stop = data.draw(st.integers(start + 1, rows))
        np.testing.assert_array_equal(found.read("x", 1, slice(start, stop)), values[1, start:stop])
        np.testing.assert_array_equal(found.read("x", slice(0, 2), slice(start, stop)), values[:, start:stop])


@pytest.mark.parametrize("shape", [(7,), (5, 3, 2, 2), (3000, 100), (1, 400_000)])
def test_an_array_without_blocks_is_read_back_whole(shape: tuple[int, ...], tmp_path: Path) -> None:
    group, values = ArrayGroup.create(tmp_path / "x.zarr", {}), noise(shape)
    group.create_array("x", shape, values.dtype, fill_value=0)
    group.write("x", values)
    np.testing.assert_array_equal(ArrayGroup.open(tmp_path / "x.zarr", made_by="x").read("x"), values)


def test_a_block_is_one_file(tmp_path: Path) -> None:
    written(tmp_path / "x.zarr")
    found = {path for path in (tmp_path / "x.zarr" / "labels" / "c").rglob("*") if path.is_file()}
    assert found == {block_file(tmp_path / "x.zarr", view, block) for view in range(VIEWS) for block in range(3)}


def test_writing_a_block_leaves_the_files_of_all_others_alone(tmp_path: Path) -> None:
    group, data = written(tmp_path / "x.zarr")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    ArrayGroup.create(tmp_path / "x.zarr", {}).write("labels", data[1, 10:20], 1, slice(10, 20))
    touched = {path for path, when in before.items() if path.stat().st_mtime_ns != when}
    assert touched <= {block_file(tmp_path / "x.zarr", 1, 1)}
    np.testing.assert_array_equal(group.read("labels"), data)


def test_a_group_that_stands_already_keeps_its_content(tmp_path: Path) -> None:
    _, data = written(tmp_path / "x.zarr")
    again = ArrayGroup.create(tmp_path / "x.zarr", {"format": "test"})
    np.testing.assert_array_equal(again.read("labels"), data)
    assert again.attributes == {"format": "test"}


@pytest.mark.parametrize("view", [1, slice(1, 2)], ids=["by number", "by slice"])
@pytest.mark.parametrize("block", [0, 1, 2])
def test_a_written_block_is_flushed_in_whatever_order_blocks_come(
    view: int | slice, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, flushed = blocks_group(tmp_path / "x.zarr"), []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (flushed.append(os.fstat(handle).st_ino), fsync(handle)))
    rows = slice(block * BLOCK, min((block + 1) * BLOCK, ROWS))
    values = noise((rows.stop - rows.start, 4))
    group.write("labels", values if isinstance(view, int) else values[None], view, rows)
    assert block_file(tmp_path / "x.zarr", 1, block).stat().st_ino in flushed


def test_a_write_that_the_disk_cuts_off_leaves_the_old_block_whole(tmp_path: Path) -> None:
    group, data = ArrayGroup.create(tmp_path / "x.zarr", {}), noise((4000, 50))
    group.create_array("x", data.shape, data.dtype, fill_value=0, layout=ArrayLayout(block_rows=2000))
    group.write("x", data)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            group.write("x", data[::-1][:2000], slice(0, 2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    np.testing.assert_array_equal(ArrayGroup.open(tmp_path / "x.zarr", made_by="x").read("x"), data)


def test_a_flipped_bit_anywhere_in_a_block_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    group, data = written(tmp_path / "x.zarr")
    file = block_file(tmp_path / "x.zarr", 2, 1)
    good = file.read_bytes()
    for position in range(0, len(good), 3):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        file.write_bytes(bytes(bad))
        for index in ((2, slice(10, 20)), (slice(2, 3), slice(12, 14)), ()):
            with pytest.raises(StoreError, match=r"x\.zarr/labels.*damaged.*potstill repair") as error:
                group.read("labels", *index)
            assert "\n" not in str(error.value)
    np.testing.assert_array_equal(group.read("labels", 2, slice(0, 10)), data[2, :10])


@pytest.mark.parametrize("share", [0.05, 0.2, 0.9, 0.99])
def test_a_truncated_block_is_an_error_that_names_the_place(share: float, tmp_path: Path) -> None:
    group, _ = written(tmp_path / "x.zarr")
    file = block_file(tmp_path / "x.zarr", 0, 2)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    for index in ((0, slice(20, 25)), ()):
        with pytest.raises(StoreError, match=r"x\.zarr/labels.*damaged"):
            group.read("labels", *index)


@pytest.mark.parametrize("lose", [Path.unlink, lambda file: file.write_bytes(b"")], ids=["no file", "empty file"])
def test_a_lost_block_reads_as_the_fill_value_so_that_the_caller_sees_it(
    lose: Callable[[Path], object], tmp_path: Path
) -> None:
    group, data = written(tmp_path / "x.zarr")
    lose(block_file(tmp_path / "x.zarr", 1, 2))
    found = group.read("labels")
    assert (found[1, 20:] == group.fill_value("labels")).all()
    found[1, 20:] = data[1, 20:]
    np.testing.assert_array_equal(found, data)


def test_a_block_of_fill_values_is_on_disk_so_that_a_lost_one_shows(tmp_path: Path) -> None:
    group = blocks_group(tmp_path / "x.zarr")
    group.write("labels", np.full((10, 4), 255, dtype=np.uint8), 0, slice(0, 10))
    assert block_file(tmp_path / "x.zarr", 0, 0).stat().st_size > 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\x00", b'{"zarr_format": 3, "node_type": "x"}'])
def test_a_damaged_group_description_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    written(tmp_path / "x.zarr")
    (tmp_path / "x.zarr" / "zarr.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"x\.zarr: .*`dvc repro dump_labels`") as error:
        ArrayGroup.open(tmp_path / "x.zarr", made_by="dump_labels")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\x00", None])
def test_a_damaged_array_description_is_one_clear_error(content: bytes | None, tmp_path: Path) -> None:
    written(tmp_path / "x.zarr")
    path = tmp_path / "x.zarr" / "labels" / "zarr.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(StoreError, match=r"x\.zarr/labels: ") as error:
        ArrayGroup.open(tmp_path / "x.zarr", made_by="dump_labels").read("labels")
    assert "\n" not in str(error.value)


def test_a_missing_group_is_named_with_the_stage_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"x\.zarr: no such folder; run `dvc repro dump_labels`"):
        ArrayGroup.open(tmp_path / "x.zarr", made_by="dump_labels")
    (tmp_path / "x.zarr").mkdir()
    with pytest.raises(StoreError, match=r"x\.zarr: .*`dvc repro dump_labels`"):
        ArrayGroup.open(tmp_path / "x.zarr", made_by="dump_labels")


def test_an_array_that_does_not_exist_is_named(tmp_path: Path) -> None:
    group, _ = written(tmp_path / "x.zarr")
    with pytest.raises(StoreError, match=r"x\.zarr/logits: no such array"):
        group.read("logits")


def test_any_zarr_library_reads_the_files(tmp_path: Path) -> None:
    _, data = written(tmp_path / "x.zarr")
    plain = zarr.open_group(tmp_path / "x.zarr", mode="r")
    np.testing.assert_array_equal(plain["labels"][:], data)
    assert plain.attrs.asdict() == {"format": "test"}
    assert json.loads((tmp_path / "x.zarr" / "labels" / "zarr.json").read_text())["zarr_format"] == 3


def test_a_manifest_is_replaced_and_found_again(tmp_path: Path) -> None:
    group = ArrayGroup.create(tmp_path / "x.zarr", {"complete": False, "version": 1, "old": 1})
    group.set_attributes({"complete": True, "version": 1, "nested": {"a": [1.5, None]}})
    found = ArrayGroup.open(tmp_path / "x.zarr", made_by="x").attributes
    assert found == {"complete": True, "version": 1, "nested": {"a": [1.5, None]}}


@pytest.mark.parametrize("rows", [4096, 4999])
def test_a_block_is_cut_into_chunks_of_a_useful_size_whatever_its_number_of_rows(rows: int, tmp_path: Path) -> None:
    group = ArrayGroup.create(tmp_path / "x.zarr", {})
    group.create_array(
        "x", (1, rows, 1000), np.dtype(np.uint8), fill_value=0, layout=ArrayLayout(row_axis=1, block_rows=rows)
    )
    chunk_bytes = int(np.prod(zarr.open_group(tmp_path / "x.zarr", mode="r")["x"].chunks))
    assert 32 * 1024 <= chunk_bytes <= 1024 * 1024
