"""Rows of an array on disk, read and written chunk by chunk in the calling thread, without Zarr's
event loop.

Zarr hands a read from thread to thread six times: a chunk of a megabyte takes 1.1 ms on an idle
machine, and several where other threads decode images meanwhile, because each hand-over waits for
a processor. Writing a file of 64 MB takes it 0.15 s or more and several times the file's memory;
here it takes 0.05 s, nearly all of it compression, and a chunk's memory.
"""

import os
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from google_crc32c import value as crc32c
from jaxtyping import Shaped, UInt8, UInt64

from pipeline.core.array_files import files_of, most_bytes, need_regular
from pipeline.core.files import writing
from pipeline.core.zstd import pack, unpack

Array: TypeAlias = Any  # zarr's, which arrays.py opens

_CHECKSUM_BYTES = 4
_NEVER_WRITTEN = 2**64 - 1  # in place of a chunk's first byte and its number of bytes


class ShardedRows:
    """The rows of a local array that is cut along its first axis alone, as `need_known_layout` has
    it.

    Reading raises ValueError where a file is damaged, OSError where it can't be read.
    """

    def __init__(self, folder: Path, array: Array) -> None:
        self._folder, self._array = folder, array
        self._chunk_shape = tuple(array.chunks)
        self._chunk_bytes = prod(self._chunk_shape) * array.dtype.itemsize
        self._chunks_in_shard = array.shards[0] // self._chunk_shape[0]
        self._last: tuple[int, Shaped[np.ndarray, "rows ..."]] = -1, np.empty(0)
        self._indices: dict[int, tuple[Path, UInt64[np.ndarray, "chunks 2"]]] = {}

    def read(self, start: int, stop: int) -> Shaped[np.ndarray, "rows ..."]:
        """Returns consecutive rows, in memory of their own."""
        size = self._chunk_shape[0]
        numbers = range(start // size, -(-stop // size))
        if len(numbers) == 1 and stop - start == size:
            return self._chunk(numbers[0])
        rows = np.empty((max(0, stop - start), *self._chunk_shape[1:]), self._array.dtype)
        for number in numbers:
            low, high = max(start, number * size), min(stop, (number + 1) * size)
            chunk = self._chunk(number) if high - low == size else self._kept_chunk(number)
            rows[low - start : high - start] = chunk[low - number * size : high - number * size]
        return rows

    def _kept_chunk(self, number: int) -> Shaped[np.ndarray, "rows ..."]:
        """Returns a chunk that is read in parts: the one that was read last is not read again."""
        last, chunk = self._last  # of several threads that read, each takes both together
        if number != last:
            chunk = self._chunk(number)
            self._last = number, chunk
        return chunk

    def _chunk(self, number: int) -> Shaped[np.ndarray, "rows ..."]:
        shard, place = divmod(number, self._chunks_in_shard)
        if shard not in self._indices:
            rows = slice(shard * self._array.shards[0], shard * self._array.shards[0] + 1)
            (file,) = files_of(self._folder, self._array, (rows,))
            need_regular(file, most_bytes(self._array))
            self._indices[shard] = file, self._index(file)
        file, index = self._indices[shard]
        first, count = index[place].tolist()
        if first + count > most_bytes(self._array):  # a chunk that was never written has the largest numbers
            raise ValueError("a chunk is lost")
        content = unpack(_checked(_part(file, first, count)), self._chunk_bytes)
        chunk: Shaped[np.ndarray, "rows ..."] = content.view(self._array.dtype).reshape(self._chunk_shape)
        return chunk

    def _index(self, file: Path) -> UInt64[np.ndarray, "chunks 2"]:
        """Returns the first byte of each chunk of a file and its number of bytes."""
        count = 16 * self._chunks_in_shard + _CHECKSUM_BYTES
        start = (file.stat().st_size if file.exists() else 0) - count
        return _checked(_part(file, start, count)).view("<u8").reshape(-1, 2)


def write_shard(folder: Path, array: Array, number: int, pieces: Iterable[Shaped[np.ndarray, "_ ..."]]) -> None:
    """Writes a file of an array that is cut along its first axis alone, byte for byte as Zarr does,
    and flushes it.

    Args:
        pieces: The rows of the file, those behind its last one passed over.
    """
    size, rows = array.chunks[0], array.shards[0]
    count = min(rows, array.shape[0] - number * rows)
    (path,) = files_of(folder, array, (slice(number * rows, number * rows + 1),))
    index = np.full((rows // size, 2), _NEVER_WRITTEN, "<u8")
    with writing(path) as file:
        first = 0
        for place, chunk in enumerate(_chunks(pieces, count, np.full(array.chunks, array.fill_value, array.dtype))):
            num_bytes = _write_checked(file, pack(chunk))
            index[place] = first, num_bytes
            first += num_bytes
        _write_checked(file, index.tobytes())


def _chunks(
    pieces: Iterable[Shaped[np.ndarray, "_ ..."]], count: int, chunk: Shaped[np.ndarray, "rows ..."]
) -> Iterator[Shaped[np.ndarray, "rows ..."]]:
    """Yields so many rows in chunks, all in the memory of the one that is given; what is left of
    the last one has the value that is there.
    """
    fill, filled = chunk.flat[0], 0
    for piece in pieces:
        rest = piece[:count]
        count -= len(rest)
        while len(rest):
            some = rest[: len(chunk) - filled]
            chunk[filled : filled + len(some)] = some
            filled, rest = filled + len(some), rest[len(some) :]
            if filled == len(chunk):
                yield chunk
                filled = 0
        if count == 0:
            break
    assert count == 0, "every row has come"
    if filled:
        chunk[filled:] = fill
        yield chunk


def _write_checked(file: BinaryIO, content: bytes) -> int:
    """Writes bytes with their checksum behind them; returns how many that are."""
    checksum: int = crc32c(content)
    return file.write(content) + file.write(checksum.to_bytes(_CHECKSUM_BYTES, "little"))


def _part(file: Path, start: int, count: int) -> bytes:
    try:
        with file.open("rb", buffering=0) as opened:
            content = os.pread(opened.fileno(), count, max(0, start))
    except FileNotFoundError:
        raise ValueError("its file is lost") from None
    if len(content) != count:
        raise ValueError("a chunk ends behind the end of its file")
    return content


def _checked(content: bytes) -> UInt8[np.ndarray, " bytes"]:
    """Returns what stands before a checksum; raises ValueError where it does not match."""
    values = np.frombuffer(content, np.uint8)
    found, stated = crc32c(values[:-_CHECKSUM_BYTES]), int.from_bytes(content[-_CHECKSUM_BYTES:], "little")
    if len(content) < _CHECKSUM_BYTES or found != stated:
        raise ValueError("the checksum does not match")
    return values[:-_CHECKSUM_BYTES]
