"""Rows that are read and files that are written without Zarr's event loop are those of Zarr, and
damage is told.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pipeline.core.arrays
import pipeline.core.shards
from pipeline.core.arrays import ArrayGroup, ArrayLayout
from pipeline.core.errors import StoreError

VALUES = np.random.default_rng(0).integers(0, 50, (1003, 3), dtype=np.int32)


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArrayGroup:
    """Returns a group with an array in 8 files of 13 chunks, of which the last has fewer rows."""
    monkeypatch.setattr(pipeline.core.arrays, "SHARD_BYTES", 1600)
    made = ArrayGroup.create(tmp_path / "x.zarr", {})
    made.put("x", VALUES, layout=ArrayLayout(chunk_bytes=132))
    assert (made.chunk_rows("x"), made.shard_rows("x")) == (11, 143)
    return ArrayGroup.open(tmp_path / "x.zarr", made_by="prepare")


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1003), (0, 11), (3, 9), (5, 12), (140, 146), (132, 143), (1001, 1003), (7, 7), (286, 700)]
)
def test_rows_are_those_of_the_array(group: ArrayGroup, start: int, stop: int) -> None:
    rows = group.read_rows("x", start, stop)
    assert rows.dtype == np.int32
    assert np.array_equal(rows, VALUES[start:stop])


def test_a_flipped_bit_anywhere_is_an_error_or_does_no_harm(group: ArrayGroup) -> None:
    file = group.path / "x/c/1/0"
    content = file.read_bytes()
    for place in range(0, len(content), 7):
        file.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        again = ArrayGroup.open(group.path, made_by="prepare")
        with pytest.raises(StoreError, match=r"x\.zarr/x\[143:286\]: damaged: ValueError"):
            again.read_rows("x", 143, 286)


@pytest.mark.parametrize("left", [0, 3, 100, -4])
def test_a_shortened_file_is_an_error(group: ArrayGroup, left: int) -> None:
    file = group.path / "x/c/2/0"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(StoreError, match="damaged"):
        group.read_rows("x", 286, 290)
    assert np.array_equal(group.read_rows("x", 100, 200), VALUES[100:200]), "the others are sound"


def test_a_chunk_that_was_never_written_is_an_error(tmp_path: Path) -> None:
    group = ArrayGroup.create(tmp_path / "x.zarr", {})
    group.create_array("x", (4000,), np.dtype(np.uint8), fill_value=0, layout=ArrayLayout(chunk_bytes=1000))
    group._array("x")[:1000] = 1  # Zarr leaves out chunks of zeros
    with pytest.raises(StoreError, match="a chunk is lost"):
        group.read_rows("x", 1000, 1001)
    (tmp_path / "x.zarr/x/c/0").unlink()
    with pytest.raises(StoreError, match="its file is lost"):
        ArrayGroup.open(tmp_path / "x.zarr", made_by="prepare").read_rows("x", 0, 1)


def test_a_chunk_that_is_read_in_parts_is_unpacked_once(group: ArrayGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked, real = list[object](), pipeline.core.shards.unpack
    monkeypatch.setattr(pipeline.core.shards, "unpack", lambda *of: (unpacked.append(of), real(*of))[1])
    for start in range(0, 44, 4):
        rows = group.read_rows("x", start, start + 4)
        assert np.array_equal(rows, VALUES[start : start + 4])
        rows[:] = -1  # the caller's own: the next rows of the chunk are as they were
    assert len(unpacked) == 4


@pytest.mark.parametrize("shape", [(1003, 3), (143, 3), (5, 3), (286, 1, 3), (1600,), (4001,)])
@pytest.mark.parametrize("piece", [1, 10, 11, 400])
def test_a_file_has_the_bytes_that_zarr_writes(
    shape: tuple[int, ...], piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.core.arrays, "SHARD_BYTES", 1600)
    values = np.resize(VALUES, shape).astype(np.uint8 if len(shape) == 1 else np.int32)
    values[-shape[0] // 3 :] = 7  # chunks of the fill value are written, too
    group = ArrayGroup.create(tmp_path / "x.zarr", {})
    for name in ("zarr", "own"):
        group.create_array(name, shape, values.dtype, fill_value=7, layout=ArrayLayout(chunk_bytes=132))
    group.write("zarr", values)
    rows = group.shard_rows("own")
    for number in range(-(-shape[0] // rows)):
        some = values[number * rows :]  # with rows behind the last one of the file
        group.write_file("own", number, (some[start : start + piece] for start in range(0, len(some), piece)))
    files = [sorted((tmp_path / "x.zarr" / name / "c").rglob("*")) for name in ("zarr", "own")]
    assert [file.name for file in files[0]] == [file.name for file in files[1]]
    for theirs, own in zip(*files, strict=True):
        assert own.is_dir() or own.read_bytes() == theirs.read_bytes()


def test_a_file_whose_rows_fail_is_not_there(group: ArrayGroup) -> None:
    def rows() -> Iterator[np.ndarray]:
        yield VALUES[:20]
        raise ValueError("no more")

    content = (group.path / "x/c/0/0").read_bytes()
    with pytest.raises(ValueError, match="no more"):
        group.write_file("x", 0, rows())
    assert (group.path / "x/c/0/0").read_bytes() == content
    assert not list(group.path.rglob("*.partial"))
