"""Checksummed arrays on disk: with zstd.py the only file that imports zarr.

Every inner chunk is compressed by zstd and closed by a crc32c, so a flipped bit is an error and not
a wrong label; chunks that equal the fill value are written, so a lost one shows. Data is written
and read in whole row ranges along one axis, because random rows cost hundreds of times as much.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.errors import ZarrUserWarning

from pipeline.core.array_files import (
    ARRAY_BYTES,
    GROUP_BYTES,
    Layout,
    bytes_of,
    files_of,
    most_bytes,
    need_known_layout,
    need_regular,
    telling_damage,
)
from pipeline.core.errors import StoreError, repaired
from pipeline.core.files import sync_folder
from pipeline.core.memory import need_room
from pipeline.core.remedies import Remedies
from pipeline.core.shards import ShardedRows, write_shard
from pipeline.core.zstd import LEVEL, use_bounded_zstd

use_bounded_zstd()

Index: TypeAlias = tuple[int | slice, ...]
Found = TypeVar("Found")

CHUNK_BYTES = 256 * 1024
SHARD_BYTES = 64 * 1024 * 1024

DESCRIPTION = "zarr.json"


@dataclass(frozen=True)
class ArrayLayout:
    """The way that an array is cut into files (shards) and, within them, into inner chunks.

    Attributes:
        row_axis: The axis that files are split along; axes before it are split into single entries.
        block_rows: Rows of a file; None: as many as make a file of the usual size.
        by_column: Whether inner chunks hold single entries of the axes behind `row_axis`, too, so
            that like is compressed with like.
        chunk_bytes: The size of an inner chunk, about; None: 256 KiB. Each takes Zarr a
            millisecond.
    """

    row_axis: int = 0
    block_rows: int | None = None
    by_column: bool = False
    chunk_bytes: int | None = None


_BY_ROWS = ArrayLayout()


class ArrayGroup:
    """A Zarr v3 group with a manifest in its attributes and arrays beside it."""

    fix = repaired()  # of what is damaged
    is_mirror = False  # whether its files lie elsewhere

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self.location = str(path)  # for messages
        self._group = group
        self._opened: dict[str, zarr.Array[Any]] = {}  # opening one takes a millisecond
        self._sharded: dict[str, ShardedRows] = {}

    @classmethod
    def create(cls, path: Path, attributes: Mapping[str, Any]) -> "ArrayGroup":
        """Returns a new group at `path`; what may stand there already is kept where it fits."""
        return cls(path, zarr.open_group(path, mode="a", zarr_format=3, attributes=dict(attributes)))

    @classmethod
    def reopen(cls, path: Path) -> "ArrayGroup":
        """Returns the group at `path`, as it is, for further writing."""
        return cls(path, zarr.open_group(path, mode="r+", zarr_format=3))

    @classmethod
    def open(cls, path: Path, *, made_by: str | Remedies) -> "ArrayGroup":
        """Opens the group at a path for reading; raises StoreError where none is readable.

        Args:
            made_by: The stage that makes it, or what to do where it is of no use.
        """
        remedies = Remedies.of_stage(made_by) if isinstance(made_by, str) else made_by
        if not path.exists():
            raise StoreError(path, "no such folder", fix=remedies.lost)
        group = cls(path, open_for_reading(path, path, remedies.damaged))
        group.fix = remedies.damaged
        return group

    @property
    def attributes(self) -> dict[str, Any]:
        """The manifest."""
        return dict(self._group.attrs.asdict())

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Replaces the manifest, atomically."""
        self._group.attrs.put(dict(attributes))
        sync_folder(self.path)

    def create_array(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        fill_value: float,
        layout: ArrayLayout = _BY_ROWS,
    ) -> None:
        """Declares an array; one of that name is replaced."""
        row_axis, block_rows, by_column = layout.row_axis, layout.block_rows, layout.by_column
        row_bytes = max(1, int(np.prod(shape[row_axis + 1 :], dtype=np.int64)) * dtype.itemsize)
        rows = max(1, shape[row_axis])
        block = min(block_rows or max(1, SHARD_BYTES // row_bytes), rows)
        lead, tail = (1,) * row_axis, tuple(max(1, n) for n in shape[row_axis + 1 :])
        columns = tail[0] if by_column else 1
        chunk = rows_in_chunk(block, row_bytes // columns, layout.chunk_bytes)
        # A block that holds all rows may be declared longer than they are; others must be what the
        # caller said.
        shard = -(-block // chunk) * chunk if block_rows is None or block == rows else block
        if shard % chunk:
            chunk = _largest_divisor(shard, chunk)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)
            self._opened.pop(name, None)
            self._group.create_array(
                name,
                shape=shape,
                dtype=dtype,
                chunks=(*lead, chunk, *((1, *tail[1:]) if by_column else tail)),
                shards=(*lead, shard, *tail),
                compressors=[ZstdCodec(level=LEVEL), Crc32cCodec()],
                fill_value=fill_value,
                config={"write_empty_chunks": True},
                overwrite=True,
            )

    def put(self, name: str, data: np.ndarray, *, fill_value: float = 0, layout: ArrayLayout = _BY_ROWS) -> None:
        """Writes a small array as a whole; one that is there already is replaced at once."""
        if name not in self._group or self.shape(name) != data.shape:
            self.create_array(name, data.shape, data.dtype, fill_value=fill_value, layout=layout)
        self.write(name, data)

    def names(self) -> list[str]:
        """Returns the names of the arrays, sorted."""
        return sorted(name for name, _ in self._group.arrays())

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._array(name).shape)

    def layout(self, name: str) -> Layout:
        """Returns how an array lies on disk."""
        array = self._array(name)
        return Layout(tuple(array.shape), array.dtype, array.shards or array.chunks)

    def chunk_rows(self, name: str) -> int:
        """Returns the rows of an inner chunk: as many as are read at once for one of them.

        The array is split along its first axis.
        """
        return int(self._array(name).chunks[0])

    def shard_rows(self, name: str) -> int:
        """Returns the rows of a file of such an array: as many as are written at once."""
        array = self._array(name)
        return int((array.shards or array.chunks)[0])

    def fill_value(self, name: str) -> Any:
        return self._array(name).fill_value

    def write(self, name: str, data: np.ndarray, *index: int | slice) -> None:
        """Writes whole files of an array and flushes them; each takes its name only when it is
        complete.
        """
        array = self._array(name).with_config({"write_empty_chunks": True})  # the files do not keep this setting
        array[index or ...] = data
        for file in files_of(self.path / name, array, index):
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
            sync_folder(file.parent)

    def write_file(self, name: str, number: int, pieces: Iterable[np.ndarray]) -> None:
        """Writes a file of an array that is cut along its first axis, given its rows in pieces, as
        `write` would.

        It writes in this thread, and holds one inner chunk of the file.
        """
        write_shard(self.path / name, self._array(name), number, pieces)

    def drop(self, name: str, *index: int | slice) -> None:
        """Removes files that may be damaged, before they are written again: Zarr reads what is
        there before it writes.
        """
        for file in files_of(self.path / name, self._array(name), index):
            file.unlink(missing_ok=True)

    def read(self, name: str, *index: int | slice) -> np.ndarray:
        """Returns a range of whole rows; raises StoreError where a file is damaged."""
        array = self._array(name)
        with telling_damage(f"{self.location}/{name}{list(index) if index else ''}", self.fix):
            need_room(bytes_of(array, index))
            for file in files_of(self.path / name, array, index):
                need_regular(file, most_bytes(array))
            return np.asarray(array[index or ...])

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Returns consecutive rows of a local array that is cut along its first axis.

        It reads in this thread; raises StoreError where a file is damaged.
        """
        array = self._array(name)
        with telling_damage(f"{self.location}/{name}[{start}:{stop}]", self.fix):
            if name not in self._sharded:
                self._sharded[name] = ShardedRows(self.path / name, array)
            return self._sharded[name].read(start, stop)

    def read_whole(self, name: str) -> np.ndarray:
        """Returns an array that must be there in full.

        Raises StoreError where one of its files is lost: Zarr would read it as fill value.
        """
        self.check_files(name)
        return self.read(name)

    def checked(self, act: Callable[[], Found], files: Mapping[str, Index | None]) -> Found:
        """Returns what `act` reads of some arrays, which raises StoreError where it is not what was
        written.

        Args:
            files: What it reads of each array; None: its description alone. Where the arrays lie
                elsewhere, these are then fetched once more.
        """
        return act()

    def files(self, name: str) -> list[str]:
        """Returns the files of an array, all of which are there, by their paths in the group."""
        self.check_files(name)
        return [f"{name}/{DESCRIPTION}", *self.part(name)]

    def part(self, name: str, *index: int | slice) -> list[str]:
        """Returns the files that a range of whole rows covers, by their paths in the group."""
        files = files_of(self.path / name, self._array(name), index)
        return [file.relative_to(self.path).as_posix() for file in files]

    def check_files(self, name: str) -> None:
        """Raises StoreError where a file of a local array is lost or empty, without reading any."""
        lost = [
            file
            for file in files_of(self.path / name, self._array(name), ())
            if not file.exists() or (file.is_file() and file.stat().st_size == 0)
        ]
        if lost:
            raise StoreError(
                f"{self.path}/{name}", f"lacks its file {lost[0].relative_to(self.path / name)}", fix=self.fix
            )

    def _array(self, name: str) -> zarr.Array[Any]:
        if name in self._opened:
            return self._opened[name]
        where = f"{self.location}/{name}"
        try:
            need_regular(self.path / name / DESCRIPTION, ARRAY_BYTES)
            found = self._group[name]
            if isinstance(found, zarr.Array):
                need_known_layout(found)
        except KeyError:
            raise StoreError(where, "no such array", fix=self.fix) from None
        except Exception as error:  # a damaged zarr.json of the array
            reason = f"{type(error).__name__}: {error}"
            raise StoreError(where, f"not a readable array ({reason})", fix=self.fix) from error
        if not isinstance(found, zarr.Array):
            raise StoreError(where, "a group", expected="an array", fix=self.fix)
        self._opened[name] = found
        return found


def open_for_reading(path: Path, where: object, fix: str) -> zarr.Group:
    """Returns Zarr's group at a path; raises StoreError, which names `where`, if there is none."""
    try:
        need_regular(path / DESCRIPTION, GROUP_BYTES)
        return zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False)
    except Exception as error:  # zarr raises many kinds for a damaged zarr.json
        found = f"not a readable Zarr v3 group ({type(error).__name__}: {error})"
        raise StoreError(where, found, fix=fix) from error


def rows_in_chunk(num_rows: int, row_bytes: int, chunk_bytes: int | None = None) -> int:
    """Returns the rows of an inner chunk of an array that has `num_rows` rows."""
    return max(1, min(num_rows, (chunk_bytes or CHUNK_BYTES) // row_bytes))


def _largest_divisor(number: int, at_most: int) -> int:
    return next(d for d in range(at_most, 0, -1) if number % d == 0)
