"""Files of arrays that are no files, larger than they may be or would unpack to more: told before
anything is opened or allocated.
"""

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from pipeline.core import memory
from pipeline.core.arrays import ArrayGroup
from pipeline.core.errors import StoreError
from pipeline.core.zstd import content_size

VALUES = np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    ArrayGroup.create(tmp_path / "x.zarr", {"format": "test"}).put("x", VALUES)
    return tmp_path / "x.zarr"


def read(store: Path) -> np.ndarray:
    return ArrayGroup.open(store, made_by="dump_labels").read_whole("x")


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def device(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def enormous(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(1 << 40)  # takes no room


@pytest.mark.parametrize("name", ["zarr.json", "x/zarr.json", "x/c/0"])
@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (fifo, "no file (a pipe, a socket or a device)"),
        (device, "no file (a pipe, a socket or a device)"),
        (folder, ""),
        (enormous, "1,099,511,627,776 bytes, of at most"),
    ],
)
def test_what_is_no_file_of_an_array_is_told_and_not_read(
    harm: Callable[[Path], None], found: str, name: str, store: Path
) -> None:
    np.testing.assert_array_equal(read(store), VALUES)
    harm(store / name)
    with pytest.raises(StoreError) as caught:
        read(store)
    assert found in str(caught.value)


def bomb(file: Path) -> None:
    """Puts a file of 64 MB of zeros in place of an array's file, packed to 2 kB."""
    aside = zarr.create_array(
        file.parent / "aside",
        shape=(1 << 26,),
        chunks=(1 << 26,),
        shards=(1 << 26,),
        dtype="uint8",
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    aside[:] = 0
    shutil.move(file.parent / "aside" / "c" / "0", file)
    shutil.rmtree(file.parent / "aside")


def test_a_chunk_that_would_unpack_to_more_is_told_and_not_unpacked(store: Path) -> None:
    bomb(store / "x" / "c" / "0")
    with pytest.raises(StoreError, match="a chunk of 67,108,864 bytes in place of 100,000"):
        read(store)


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (b"\x20\x63", 99),  # a single segment, its size in a byte
        (b"\x60\x00\x01", 512),  # in two, from 256 on
        (b"\x80\x58\x01\x00\x00\x01", (1 << 24) + 1),  # in four, behind the size of a window
        (b"\xe0" + (1 << 40).to_bytes(8, "little"), 1 << 40),
        (b"\x00\x58", None),
        (b"", None),
    ],
)
def test_the_size_that_a_frame_states_is_read(header: bytes, size: int | None) -> None:
    assert content_size(struct.pack("<I", 0xFD2FB528) + header) == size


def test_what_is_more_than_all_memory_is_told_and_not_allocated(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machine_bytes", lambda: 99_999)
    with pytest.raises(StoreError, match=r"x\.zarr/x: .*GB of memory, and this machine has 0\.0"):
        read(store)


def test_a_container_is_smaller_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.machine_bytes.cache_clear()
    whole = memory.machine_bytes()
    (tmp_path / "limit").write_text("1000\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(memory, "_LIMITS", [str(tmp_path / "none"), str(tmp_path / "absent")])
    memory.machine_bytes.cache_clear()
    assert memory.machine_bytes() >= whole > 1000
    monkeypatch.setattr(memory, "_LIMITS", [str(tmp_path / "limit")])
    memory.machine_bytes.cache_clear()
    assert memory.machine_bytes() == 1000
    memory.machine_bytes.cache_clear()
