"""Checksummed arrays on disk: the one file that imports zarr.

Every inner chunk is compressed by zstd and closed by a crc32c, so a flipped bit is an error and not a wrong label;
chunks that equal the fill value are written, so a lost one shows. Data is written and read in whole row ranges along
one axis, because random rows cost hundreds of times as much.
"""

import os
import warnings
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.errors import ZarrUserWarning

from pipeline.artifacts import sync_folder
from pipeline.errors import PipelineError, StoreError

CHUNK_BYTES = 256 * 1024
SHARD_BYTES = 64 * 1024 * 1024


class ArrayGroup:
    """A Zarr v3 group with a manifest in its attributes and arrays beside it."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group

    @classmethod
    def create(cls, path: Path, attributes: Mapping[str, Any]) -> "ArrayGroup":
        """A new group at `path`; what may stand there already is kept where it fits."""
        return cls(path, zarr.open_group(path, mode="a", zarr_format=3, attributes=dict(attributes)))

    @classmethod
    def open(cls, path: Path, *, made_by: str) -> "ArrayGroup":
        """The group at `path`, for reading; raises StoreError where there is none."""
        if not path.exists():
            raise StoreError(path, "no such folder", mend=f"run `dvc repro {made_by}`")
        try:
            return cls(path, zarr.open_group(path, mode="r", zarr_format=3))
        except Exception as error:  # zarr raises many kinds for a damaged zarr.json
            reason = f"{type(error).__name__}: {error}"
            raise StoreError(
                path, f"not a readable Zarr v3 group ({reason})", mend=f"delete it and run `dvc repro {made_by}`"
            ) from error

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
        row_axis: int = 0,
        block_rows: int | None = None,
    ) -> None:
        """Declares an array that is split along `row_axis` only: into files (shards) of `block_rows` rows, and these
        into inner chunks of about 256 KiB. Axes before `row_axis` are split into single entries."""
        row_bytes = max(1, int(np.prod(shape[row_axis + 1 :], dtype=np.int64)) * dtype.itemsize)
        rows = max(1, shape[row_axis])
        block = min(block_rows or max(1, SHARD_BYTES // row_bytes), rows)
        chunk = max(1, min(block, CHUNK_BYTES // row_bytes))
        # A block that holds all rows may be declared longer than they are; others must be what the caller said.
        shard = -(-block // chunk) * chunk if block_rows is None or block == rows else block
        if shard % chunk:
            chunk = _largest_divisor(shard, chunk)
        lead, tail = (1,) * row_axis, tuple(max(1, n) for n in shape[row_axis + 1 :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)
            self._group.create_array(
                name,
                shape=shape,
                dtype=dtype,
                chunks=(*lead, chunk, *tail),
                shards=(*lead, shard, *tail),
                compressors=[ZstdCodec(level=3), Crc32cCodec()],
                fill_value=fill_value,
                config={"write_empty_chunks": True},
                overwrite=True,
            )

    def names(self) -> list[str]:
        """The arrays, sorted."""
        return sorted(name for name, _ in self._group.arrays())

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._array(name).shape)

    def fill_value(self, name: str) -> Any:
        return self._array(name).fill_value

    def write(self, name: str, data: np.ndarray, *index: int | slice) -> None:
        """Writes whole files of an array and flushes them; each takes its name only when it is complete."""
        array = self._array(name).with_config({"write_empty_chunks": True})  # the files do not keep this setting
        array[index or ...] = data
        for file in _files_of(self.path / name, array, index):
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
            sync_folder(file.parent)

    def read(self, name: str, *index: int | slice) -> np.ndarray:
        """A range of whole rows; raises StoreError where a checksum does not match or a file is damaged."""
        array = self._array(name)
        try:
            return np.asarray(array[index or ...])
        except (PipelineError, MemoryError, PermissionError):
            raise
        except Exception as error:  # codecs raise ValueError, RuntimeError and others for damage
            place = f"{self.path}/{name}{list(index) if index else ''}"
            raise StoreError(
                place,
                f"damaged: {type(error).__name__}: {error}",
                expected="content that matches its checksum",
                mend="restore it (`dvc checkout --force`) or delete it and run `dvc repro`",
            ) from error

    def read_whole(self, name: str) -> np.ndarray:
        """An array that must be there in full; raises StoreError where a file of it is lost (which reads as fill value)."""
        lost = [file for file in _files_of(self.path / name, self._array(name), ()) if not file.exists()]
        if lost:
            mend = "restore it (`dvc checkout --force`) or delete it and run `dvc repro`"
            raise StoreError(
                f"{self.path}/{name}", f"lacks its file {lost[0].relative_to(self.path / name)}", mend=mend
            )
        return self.read(name)

    def _array(self, name: str) -> zarr.Array[Any]:
        try:
            found = self._group[name]
        except KeyError:
            raise StoreError(
                f"{self.path}/{name}", "no such array", mend="delete the store and run `dvc repro`"
            ) from None
        except Exception as error:  # a damaged zarr.json of the array
            reason = f"{type(error).__name__}: {error}"
            raise StoreError(
                f"{self.path}/{name}", f"not a readable array ({reason})", mend="delete the store and run `dvc repro`"
            ) from error
        if not isinstance(found, zarr.Array):
            raise StoreError(f"{self.path}/{name}", "a group", expected="an array")
        return found


def _largest_divisor(number: int, at_most: int) -> int:
    return next(d for d in range(at_most, 0, -1) if number % d == 0)


def _files_of(folder: Path, array: "zarr.Array[Any]", index: tuple[int | slice, ...]) -> list[Path]:
    """The shard files that `index` covers."""
    shards = array.shards or array.chunks
    numbers = []
    for axis, (size, shard) in enumerate(zip(array.shape, shards, strict=True)):
        part = index[axis] if axis < len(index) else slice(None)
        first, last = (part, part + 1) if isinstance(part, int) else part.indices(size)[:2]
        numbers.append(range(first // shard, -(-last // shard)))
    return [folder.joinpath("c", *map(str, place)) for place in product(*numbers)]
