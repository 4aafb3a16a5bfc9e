"""The inputs of a split in its Zarr group: numbers as they are, or encoded files of images that
every read decodes.

```
pixels     images uint8 [samples, channels, height, width]; of another kind inputs [samples, ...]
encoded    encoded uint8 [bytes], one image file after the other,
           and offsets int64 [samples + 1]: the place where each begins
```
"""

import math
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from threading import Lock
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from pipeline.core.arrays import ArrayGroup, ArrayLayout, rows_in_chunk
from pipeline.core.errors import DataError
from pipeline.core.threads import map_in_order
from pipeline.data.content import IMAGES, Content
from pipeline.data.input_kinds import IMAGE
from pipeline.data.sample_ids import FIX

Storage = Literal["pixels", "encoded"]
#: Consecutive rows, and the places of those among them that are wanted; None: all of them.
Wanted = tuple[range, Int64[np.ndarray, " _"] | None]
_READ_BYTES = 32 * 1024 * 1024  # of decoded images, of which the encoded ones are held beside them
_DECODED_BYTES, _MOST_FILES = 1 << 20, 32  # that a thread decodes in a row
IMAGE_CHUNK_BYTES = 1 << 20  # what streaming reads at a time


class StoredImages(ABC):
    """The images of a split on disk; reading damaged ones raises StoreError or DataError."""

    #: Of one sample: of an image channels, height, width.
    shape: tuple[int, ...]
    content: Content = IMAGES
    #: Reading less than so many rows, or across their borders, may read all of them.
    chunk_rows: int

    @abstractmethod
    def read(self, rows: range, kept: Int64[np.ndarray, " images"] | None = None) -> Integer[np.ndarray, "images ..."]:
        """Returns consecutive rows, or of these only the ones at the places `kept`."""

    def read_each(self, several: Sequence[Wanted]) -> Iterator[Integer[np.ndarray, "_ ..."]]:
        """Yields what `read` returns of each; the next ones may be under way meanwhile."""
        return (self.read(rows, kept) for rows, kept in several)

    @abstractmethod
    def whole(self) -> Integer[np.ndarray, "samples ..."]:
        """Returns all of them."""


def _pieces(rows: range, shape: Iterable[int], chunk_rows: int = 1) -> Iterator[range]:
    """Yields consecutive rows a few at a time, cut where chunks end.

    So little is held of what is read and unpacked beside them.
    """
    step = max(1, _READ_BYTES // (math.prod(shape) * chunk_rows)) * chunk_rows
    for start in range(rows.start // step * step, rows.stop, step):
        yield range(max(start, rows.start), min(start + step, rows.stop))


def open_images(
    group: ArrayGroup, storage: Storage, shape: Iterable[int], num_rows: int, content: Content = IMAGES
) -> StoredImages:
    """Returns a split's inputs, without reading any; raises StoreError where a file is lost, and
    DataError where they are not of the kind's type.
    """
    if storage == "pixels":
        return _Numbers(group, content)
    return _Encoded(group, tuple(shape), num_rows)


class HeldImages(StoredImages):
    """The images of a split, with consecutive rows in memory; others are read when asked for.

    Args:
        given_up: Asked between the pieces that are read: whether nobody wants them any more.
    """

    def __init__(self, images: StoredImages, rows: range, given_up: Callable[[], bool] = lambda: False) -> None:
        self.shape, self.chunk_rows, self.content = images.shape, images.chunk_rows, images.content
        self._others, self._rows = images, rows
        self._held = np.empty((len(rows), *self.shape), dtype=self.content.kind.dtype)
        for some in _pieces(rows, self.shape, self.chunk_rows):
            if given_up():
                return
            self._held[some.start - rows.start : some.stop - rows.start] = images.read(some)

    def read(self, rows: range, kept: Int64[np.ndarray, " images"] | None = None) -> Integer[np.ndarray, "images ..."]:
        if rows.start < self._rows.start or rows.stop > self._rows.stop:
            return self._others.read(rows, kept)
        images = self._held[rows.start - self._rows.start : rows.stop - self._rows.start]
        return images if kept is None else images[kept]

    def whole(self) -> Integer[np.ndarray, "samples ..."]:
        return self._others.whole()


class _Numbers(StoredImages):
    """The inputs of a split that are stored as numbers."""

    def __init__(self, group: ArrayGroup, content: Content) -> None:
        self._group, self._name, self.content = group, content.kind.array, content
        group.check_files(self._name)
        self.shape = group.shape(self._name)[1:]
        self.chunk_rows = group.chunk_rows(self._name)

    def read(self, rows: range, kept: Int64[np.ndarray, " images"] | None = None) -> Integer[np.ndarray, "images ..."]:
        images = self._group.read_rows(self._name, rows.start, rows.stop)
        return images if kept is None else images[kept]

    def whole(self) -> Integer[np.ndarray, "samples ..."]:
        return self._group.read_whole(self._name)


def create_images(group: ArrayGroup, name: str, shape: tuple[int, ...], dtype: np.dtype[Any] = IMAGE.dtype) -> None:
    """Declares an array of inputs or of encoded bytes."""
    group.create_array(name, shape, dtype, fill_value=0, layout=ArrayLayout(chunk_bytes=IMAGE_CHUNK_BYTES))


class _Encoded(StoredImages):
    """The images of a split that are stored as files.

    They are decoded by as many threads as there are processors, and fitted to one size. Files are
    small beside the chunks that they lie in, so the last chunks that were read are kept.
    """

    def __init__(self, group: ArrayGroup, shape: tuple[int, ...], num_rows: int) -> None:
        group.check_files("encoded")
        self._group, self.shape = group, shape
        self._bytes_in_chunk = group.chunk_rows("encoded")
        self._lock = Lock()
        self._last: tuple[int, UInt8[np.ndarray, " bytes"]] = 0, np.empty(0, np.uint8)
        self._offsets: Int64[np.ndarray, " borders"] = group.read_whole("offsets")
        borders = [len(self._offsets) - 1, *self._offsets[[0, -1]].tolist()]
        if borders != [num_rows, 0, *group.shape("encoded")] or (np.diff(self._offsets) < 0).any():
            raise DataError(group.path, "its offsets do not fit its encoded images", fix=FIX)
        # As if these were pixels, so that an epoch goes through them in the very same order.
        self.chunk_rows = rows_in_chunk(num_rows, math.prod(shape), IMAGE_CHUNK_BYTES)

    def read(self, rows: range, kept: Int64[np.ndarray, " images"] | None = None) -> Integer[np.ndarray, "images ..."]:
        (images,) = self.read_each([(rows, kept)])
        return images

    def read_each(self, several: Sequence[Wanted]) -> Iterator[Integer[np.ndarray, "_ ..."]]:
        at_once = max(1, min(_MOST_FILES, _DECODED_BYTES // math.prod(self.shape)))
        begun = deque[UInt8[np.ndarray, "images channels height width"]]()

        def tasks() -> Iterator[tuple[Sequence[int], UInt8[np.ndarray, "some channels height width"]]]:
            for rows, kept in several:
                wanted = rows if kept is None else [rows[place] for place in kept.tolist()]
                begun.append(np.empty((len(wanted), *self.shape), dtype=np.uint8))
                for start in range(0, len(wanted), at_once):
                    yield wanted[start : start + at_once], begun[-1][start : start + at_once]

        # One pool of threads for all: a page may have too few files to occupy every processor.
        decoded = 0
        with closing(map_in_order(self._decode, tasks(), os.cpu_count() or 1)) as counts:
            for count in counts:
                decoded += count
                while begun and decoded >= len(begun[0]):
                    decoded -= len(begun[0])
                    yield begun.popleft()
        yield from begun  # without files

    def whole(self) -> Integer[np.ndarray, "samples ..."]:
        rows = range(len(self._offsets) - 1)
        images = np.empty((len(rows), *self.shape), dtype=np.uint8)
        for some in _pieces(rows, self.shape):
            images[some.start : some.stop] = self.read(some)
        return images

    def _decode(self, task: tuple[Sequence[int], UInt8[np.ndarray, "some channels height width"]]) -> int:
        """Reads and decodes some ascending rows to their places; returns how many."""
        from pipeline.data.decoding import DecodeError, decode  # with PIL, which pixels can do without

        rows, places = task
        channels, height, width = self.shape
        start, stop = self._offsets[[rows[0], rows[-1] + 1]].tolist()
        content = self._encoded(start, stop)
        for row, place in zip(rows, places, strict=True):
            file = content[self._offsets[row] - start : self._offsets[row + 1] - start].tobytes()
            try:
                place[:] = decode(file, channels, (height, width))  # type: ignore[arg-type]
            except DecodeError as error:
                raise DataError(f"{self._group.path}, row {row}", str(error), fix=FIX) from None
        return len(rows)

    def _encoded(self, start: int, stop: int) -> UInt8[np.ndarray, " bytes"]:
        """Returns a range of bytes; whole chunks are read for it, and kept for the next call."""
        with self._lock:
            first, content = self._last
            if not first <= start <= stop <= first + len(content):
                first = start // self._bytes_in_chunk * self._bytes_in_chunk
                end = min(-(-stop // self._bytes_in_chunk) * self._bytes_in_chunk, int(self._offsets[-1]))
                content = self._group.read_rows("encoded", first, end)
                self._last = first, content
        return content[start - first : stop - first]
