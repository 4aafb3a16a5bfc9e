"""The inputs of a split in its Zarr group: numbers as they are, or encoded files of images that
every read decodes.

```
pixels     images uint8 [samples, channels, height, width]; of another kind inputs [samples, ...]
encoded    encoded uint8 [bytes], one image file after the other,
           and offsets int64 [samples + 1]: the place where each begins
```
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from pipeline.core.arrays import ArrayGroup, ArrayLayout, rows_in_chunk
from pipeline.core.errors import DataError
from pipeline.core.threads import Pause, loader_workers, map_in_order, own_cores
from pipeline.data.content import IMAGES, Content
from pipeline.data.file_content import DecodeError
from pipeline.data.input_kinds import IMAGE
from pipeline.data.sample_ids import FIX

Storage = Literal["pixels", "encoded"]
#: Consecutive rows, and the places of those among them that are wanted; None: all of them.
Wanted = tuple[range, Int64[np.ndarray, " _"] | None]
#: The same with memory for it; None: it has its own.
Placed = tuple[range, Int64[np.ndarray, " _"] | None, Integer[np.ndarray, "_ ..."] | None]
#: The row of an image, and the place of its pixels.
_Place = tuple[int, UInt8[np.ndarray, "channels height width"]]
#: An encoded image: its row, its bytes, and the place of its pixels.
_File = tuple[int, bytes, UInt8[np.ndarray, "channels height width"]]
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

    def read_each(self, several: Iterable[Placed | Pause]) -> Iterator[Integer[np.ndarray, "_ ..."]]:
        """Yields what `read` returns of each, at its place; the next ones, up to a pause, may be
        under way meanwhile.
        """
        for each in several:
            if isinstance(each, Pause):
                continue
            rows, kept, place = each
            images = self.read(rows, kept)
            if place is not None:
                place[:] = images
            yield images if place is None else place

    def take(self, rows: Int64[np.ndarray, " some"]) -> Integer[np.ndarray, "some ..."]:
        """Returns some rows, in any order; whole chunks are read even for a few."""
        # 1. Ascending, so that each chunk is read once.
        order = np.argsort(rows, kind="stable")
        pieces = self.pieces(rows[order])
        if len(pieces) == 1:
            images = self.read(*pieces[0])
        else:
            images = np.empty((len(rows), *self.shape), self.content.kind.dtype)
            deque(self.read_each(placed(pieces, images)), maxlen=0)
        # 2. Back in the order that was asked for; no copy where that is ascending.
        return images if np.array_equal(order, np.arange(len(rows))) else images[np.argsort(order)]

    def pieces(self, rows: Int64[np.ndarray, " some"]) -> list[Wanted]:
        """Returns what is to be read for ascending rows: each chunk once, no two at a time."""
        if len(rows) == 0:
            return []
        borders = np.flatnonzero(np.diff(rows // self.chunk_rows)) + 1
        parts = np.split(rows, borders)
        return [(range(int(part[0]), int(part[-1]) + 1), part - part[0]) for part in parts]

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
    group: ArrayGroup,
    storage: Storage,
    shape: Iterable[int],
    num_rows: int,
    content: Content = IMAGES,
    kept_bytes: int = 0,
) -> StoredImages:
    """Returns a split's inputs, without reading any; raises StoreError where a file is lost, and
    DataError where they are not of the kind's type.

    Args:
        kept_bytes: The memory for files of encoded images that are read once and kept.
    """
    if storage == "pixels":
        return _Numbers(group, content)
    return _Encoded(group, tuple(shape), num_rows, kept_bytes)


def placed(pieces: Iterable[Wanted], place: Integer[np.ndarray, "all ..."]) -> Iterator[Placed]:
    """Yields pieces with memory for each, one after the other."""
    start = 0
    for rows, kept in pieces:
        stop = start + len(rows if kept is None else kept)
        yield rows, kept, place[start:stop]
        start = stop


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

    def pieces(self, rows: Int64[np.ndarray, " some"]) -> list[Wanted]:
        return self._others.pieces(rows)

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

    They are decoded by as many threads as this process has processors, and fitted to one size.
    Files are small beside the chunks that they lie in, so the chunk that was read last is kept, and
    the first ones in `kept_bytes`: in a random order a chunk is read for a few files, or for one.
    """

    def __init__(self, group: ArrayGroup, shape: tuple[int, ...], num_rows: int, kept_bytes: int) -> None:
        group.check_files("encoded")
        self._group, self.shape = group, shape
        self._bytes_in_chunk = group.chunk_rows("encoded")
        self._last: tuple[int, UInt8[np.ndarray, " bytes"]] = -1, np.empty(0, np.uint8)
        self._kept, self._kept_bytes = dict[int, UInt8[np.ndarray, " bytes"]](), kept_bytes
        self._offsets: Int64[np.ndarray, " borders"] = group.read_whole("offsets")
        borders = [len(self._offsets) - 1, *self._offsets[[0, -1]].tolist()]
        if borders != [num_rows, 0, *group.shape("encoded")] or (np.diff(self._offsets) < 0).any():
            raise DataError(group.path, "its offsets do not fit its encoded images", fix=FIX)
        # As if these were pixels, so that an epoch goes through them in the very same order.
        self.chunk_rows = rows_in_chunk(num_rows, math.prod(shape), IMAGE_CHUNK_BYTES)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what another process gets: it reads for itself."""
        return vars(self) | {"_kept": {}}

    def read(self, rows: range, kept: Int64[np.ndarray, " images"] | None = None) -> Integer[np.ndarray, "images ..."]:
        (images,) = self.read_each([(rows, kept, None)])
        return images

    def pieces(self, rows: Int64[np.ndarray, " some"]) -> list[Wanted]:
        """Returns all as one piece: a file is read apart from others, and decoded to its place."""
        return [(range(int(rows[0]), int(rows[-1]) + 1), rows - rows[0])] if len(rows) else []

    def read_each(self, several: Iterable[Placed | Pause]) -> Iterator[Integer[np.ndarray, "_ ..."]]:
        begun = deque[UInt8[np.ndarray, "images channels height width"]]()

        def places() -> Iterator[_Place | Pause]:
            for each in several:
                if isinstance(each, Pause):
                    yield each
                    continue
                rows, kept, place = each
                wanted = rows if kept is None else [rows[number] for number in kept.tolist()]
                begun.append(np.empty((len(wanted), *self.shape), np.uint8) if place is None else place)
                yield from zip(wanted, begun[-1], strict=True)

        decoded = 0
        with closing(self._decoded(places())) as counts:
            for count in counts:
                decoded += count
                while begun and decoded >= len(begun[0]):
                    decoded -= len(begun[0])
                    yield begun.popleft()

    def take(self, rows: Int64[np.ndarray, " some"]) -> UInt8[np.ndarray, "some channels height width"]:
        images = np.empty((len(rows), *self.shape), dtype=np.uint8)
        ascending = np.argsort(rows, kind="stable").tolist()  # so each chunk is read once
        deque(self._decoded((int(rows[number]), images[number]) for number in ascending), maxlen=0)
        return images

    def _decoded(self, places: Iterable[_Place | Pause]) -> Generator[int, None, None]:
        """Yields how many images have come to their places, some at a time, in their order."""
        at_once = max(1, min(_MOST_FILES, _DECODED_BYTES // math.prod(self.shape)))

        def tasks() -> Iterator[list[_File] | Pause]:
            # The thread that asks for images reads, so that threads that decode wait for no other.
            files = list[_File]()
            for each in places:
                if not isinstance(each, Pause):
                    row, place = each
                    files.append((row, self._file(row), place))
                if isinstance(each, Pause) or len(files) == at_once:
                    yield files
                    files = []
                if isinstance(each, Pause):
                    yield each
            yield files

        # One pool of threads for all: a page may have too few files to occupy every processor.
        return map_in_order(self._decode, tasks(), own_cores())

    def whole(self) -> Integer[np.ndarray, "samples ..."]:
        rows = range(len(self._offsets) - 1)
        images = np.empty((len(rows), *self.shape), dtype=np.uint8)
        for some in _pieces(rows, self.shape):
            images[some.start : some.stop] = self.read(some)
        return images

    def _decode(self, files: Sequence[_File]) -> int:
        """Decodes some files to their places; returns how many."""
        from pipeline.data.decoding import decode  # with PIL, which pixels can do without

        channels, height, width = self.shape
        for row, content, place in files:
            try:
                decode(content, channels, (height, width), out=place)  # type: ignore[arg-type]
            except DecodeError as error:
                raise DataError(f"{self._group.path}, row {row}", str(error), fix=FIX) from None
        return len(files)

    def _file(self, row: int) -> bytes:
        """Returns the file of a row, of one chunk or several."""
        start, stop = self._offsets[row : row + 2].tolist()
        size, parts = self._bytes_in_chunk, list[memoryview]()
        for number in range(start // size, -(-stop // size)):
            parts.append(self._chunk(number)[max(0, start - number * size) : stop - number * size].data)
        return b"".join(parts)

    def _chunk(self, number: int) -> UInt8[np.ndarray, " bytes"]:
        """Returns a chunk of files, one that is kept without reading it again."""
        if (kept := self._kept.get(number)) is not None:
            return kept
        last, content = self._last  # of several threads that read, each takes both together
        if number != last:
            start = number * self._bytes_in_chunk
            content = self._group.read_rows("encoded", start, min(start + self._bytes_in_chunk, int(self._offsets[-1])))
            self._last = number, content
            if (len(self._kept) + 1) * self._bytes_in_chunk <= self._kept_bytes // loader_workers():
                self._kept[number] = content
        return content
