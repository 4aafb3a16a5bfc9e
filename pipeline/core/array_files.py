"""The files of an array on disk, looked at before anything of them is unpacked or allocated.

A store may come from anywhere. So its sizes are believed as far as they fit the form in which
arrays are written here, and one another: what is read is never larger than that.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pipeline.core.errors import PipelineError, StoreError
from pipeline.core.plain_files import odd_file

GROUP_BYTES = 64 << 20  # at most, of the description of a group: its manifest lists the classes
ARRAY_BYTES = 1 << 20  # at most, of the description of an array
_MOST_CHUNKS = 1 << 20  # of a file; its index takes 16 bytes for each
_MOST_ENTRIES = 1 << 56
_CODECS = ["bytes", "zstd", "crc32c"]

Array: TypeAlias = Any  # zarr's, which arrays.py opens


@dataclass(frozen=True)
class Layout:
    """The shape and type of an array on disk, and the shape of its files."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    file_shape: tuple[int, ...]

    def in_files_of(self, block_rows: int | None, row_axis: int = 1) -> bool:
        """Returns whether each file is a range of so many rows along an axis, of one entry of those
        before it; None: whether it is one file.
        """
        if block_rows is None:
            return all(has >= size for has, size in zip(self.file_shape, self.shape, strict=True))
        lead, (rows, *rest) = self.file_shape[:row_axis], self.file_shape[row_axis:]
        count, *others = self.shape[row_axis:]
        fits = rows == block_rows or rows >= count <= block_rows
        return fits and all(has == 1 for has in lead) and all(h >= size for h, size in zip(rest, others, strict=True))

    def __str__(self) -> str:
        return f"shape {self.shape} of {self.dtype} in files of {self.file_shape}"


def need_regular(path: Path, most_bytes: int) -> None:
    """Raises ValueError where a file is there and is no regular one, or larger than it may be."""
    if found := odd_file(path, most_bytes):
        raise ValueError(f"{path.name}: {found}")


@contextmanager
def telling_damage(where: str, fix: str) -> Iterator[None]:
    """Raises StoreError in place of what codecs raise for damage: ValueError, RuntimeError and
    others.
    """
    try:
        yield
    except (PipelineError, MemoryError, PermissionError):
        raise
    except Exception as error:
        found = f"damaged: {type(error).__name__}: {error}"
        raise StoreError(where, found, expected="content that matches its checksum", fix=fix) from error


def need_known_layout(array: Array) -> None:
    """Raises ValueError unless an array is cut and packed as `ArrayGroup.create_array` does it."""
    shards = array.shards or ()
    if array.dtype.kind not in "uif" or not array.dtype.isnative:
        raise ValueError(f"values of type {array.dtype}")
    if not shards or _inner_codecs(array) != _CODECS:
        raise ValueError(f"not packed as sharding_indexed of {', '.join(_CODECS)}")
    for size, shard, chunk in zip(array.shape, shards, array.chunks, strict=True):
        if not 1 <= chunk <= min(shard, max(1, size)) or shard % chunk or shard >= max(1, size) + chunk:
            raise ValueError(f"shape {array.shape} cut into files of {shards} and chunks of {array.chunks}")
    if prod(array.shape) > _MOST_ENTRIES or _num_chunks(array) > _MOST_CHUNKS:
        raise ValueError(f"shape {array.shape} in chunks of {array.chunks}, which are too many")


def _inner_codecs(array: Array) -> list[str]:
    outer = [codec.to_dict() for codec in array.metadata.codecs]
    if [codec["name"] for codec in outer] != ["sharding_indexed"]:
        return []
    configuration: Any = outer[0]["configuration"]
    return [codec["name"] for codec in configuration["codecs"]]


def _num_chunks(array: Array) -> int:
    """Returns the inner chunks of a file."""
    return prod(shard // chunk for shard, chunk in zip(array.shards or array.chunks, array.chunks, strict=True))


def most_bytes(array: Array) -> int:
    """Returns the bytes that a file of an array has at most: zstd adds less than 1 in 256 to what
    it can't compress, and each chunk takes an entry of the index and a checksum.
    """
    values: int = prod(array.shards or array.chunks) * array.dtype.itemsize
    return values + values // 256 + 128 * (_num_chunks(array) + 1)


def files_of(folder: Path, array: Array, index: Sequence[int | slice]) -> Iterator[Path]:
    """Yields the files (shards) that `index` covers."""
    shards = array.shards or array.chunks
    numbers = []
    for axis, (size, shard) in enumerate(zip(array.shape, shards, strict=True)):
        part = index[axis] if axis < len(index) else slice(None)
        first, last = (part, part + 1) if isinstance(part, int) else part.indices(size)[:2]
        numbers.append(range(first // shard, -(-last // shard)))
    # As the metadata says, not as they are written here: a damaged separator would have Zarr look
    # elsewhere.
    for place in product(*numbers):
        yield folder / array.metadata.encode_chunk_key(place)


def bytes_of(array: Array, index: Sequence[int | slice]) -> int:
    """Returns the bytes in memory of a range of an array."""
    lengths = list(array.shape)
    for axis, part in enumerate(index):
        lengths[axis] = 1 if isinstance(part, int) else len(range(*part.indices(lengths[axis])))
    return int(prod(lengths) * array.dtype.itemsize)
