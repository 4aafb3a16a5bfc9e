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
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from pipeline.core.arrays import ArrayGroup, ArrayLayout, rows_in_chunk
from pipeline.core.errors import DataError
from pipeline.data.content import IMAGES, Content
from pipeline.data.input_kinds import IMAGE
from pipeline.data.sample_ids import FIX

Storage = Literal["pixels", "encoded"]
_READ_BYTES = 32 * 1024 * 1024  # of decoded images, of which the encoded ones are held beside them
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
        images = self._group.read(self._name, slice(rows.start, rows.stop))
        return images if kept is None else images[kept]

    def whole(self) -> Integer[np.ndarray, "samples ..."]:
        return self._group.read_whole(self._name)


def create_images(group: ArrayGroup, name: str, shape: tuple[int, ...], dtype: np.dtype[Any] = IMAGE.dtype) -> None:
    """Declares an array of inputs or of encoded bytes."""
    group.create_array(name, shape, dtype, fill_value=0, layout=ArrayLayout(chunk_bytes=IMAGE_CHUNK_BYTES))


class _Encoded(StoredImages):
    """The images of a split that are stored as files.

    They are decoded by as many threads as there are processors, and fitted to one size.
    """

    def __init__(self, group: ArrayGroup, shape: tuple[int, ...], num_rows: int) -> None:
        group.check_files("encoded")
        self._group, self.shape = group, shape
        self._offsets: Int64[np.ndarray, " borders"] = group.read_whole("offsets")
        borders = [len(self._offsets) - 1, *self._offsets[[0, -1]].tolist()]
        if borders != [num_rows, 0, *group.shape("encoded")] or (np.diff(self._offsets) < 0).any():
            raise DataError(group.path, "its offsets do not fit its encoded images", fix=FIX)
        # As if these were pixels, so that an epoch goes through them in the very same order.
        self.chunk_rows = rows_in_chunk(num_rows, math.prod(shape), IMAGE_CHUNK_BYTES)

    def read(self, rows: range, kept: Int64[np.ndarray, " images"] | None = None) -> Integer[np.ndarray, "images ..."]:
        borders = self._offsets[rows.start : rows.stop + 1]
        content = self._group.read("encoded", slice(int(borders[0]), int(borders[-1])))
        borders = borders - borders[0]
        places = range(len(rows)) if kept is None else kept.tolist()
        contents = [content[borders[place] : borders[place + 1]].tobytes() for place in places]
        return self._decode(contents, [rows[place] for place in places])

    def whole(self) -> Integer[np.ndarray, "samples ..."]:
        rows = range(len(self._offsets) - 1)
        images = np.empty((len(rows), *self.shape), dtype=np.uint8)
        for some in _pieces(rows, self.shape):
            images[some.start : some.stop] = self.read(some)
        return images

    def _decode(self, contents: list[bytes], rows: Iterable[int]) -> UInt8[np.ndarray, "some channels height width"]:
        from pipeline.data.decoding import DecodeError, decode_all  # with PIL, which pixels can do without

        channels, height, width = self.shape
        images = np.empty((len(contents), *self.shape), dtype=np.uint8)
        decoded = decode_all(contents, channels, os.cpu_count() or 1, (height, width))  # type: ignore[arg-type]
        for place, (image, row) in enumerate(zip(decoded, rows, strict=True)):
            if isinstance(image, DecodeError):
                raise DataError(f"{self._group.path}, row {row}", str(image), fix=FIX) from None
            images[place] = image
        return images
