"""The pool: all samples of a source, made ready and kept on disk in pieces, to be read in another
order.

Splits are written in the order of rows, which goes through the buckets of all pieces from front to
back. Memory holds some 32 MB of samples, and some 100 bytes a sample.
"""

import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, Integer, Shaped, UInt8

from pipeline.core.errors import DataError
from pipeline.core.threads import map_in_order
from pipeline.data.decoding import decode
from pipeline.data.file_content import Content, DecodeError
from pipeline.data.hard_labels import UNLABELLED, is_labelled
from pipeline.data.map_files import Maps
from pipeline.preparation.blocks import BlockColumn, PoolBlock, map_digest, opened
from pipeline.preparation.buckets import Buckets, read_rows, read_things
from pipeline.preparation.form import Form
from pipeline.preparation.levels import LevelCounts
from pipeline.preparation.made import Broken
from pipeline.preparation.make import Channels
from pipeline.preparation.numbering import Numbering
from pipeline.preparation.order import row_order
from pipeline.preparation.piece import Piece, unequal

Part = Literal["images", "keys", "maps"]

_FILES = 1 << 16  # numbers of files that a piece may have


class Pool:
    """The samples of pieces that are whole.

    Args:
        folder: Where the pieces lie, in the order of the source.
    """

    def __init__(self, folder: Path, form: Form, numbering: Numbering, pieces: Sequence[Piece]) -> None:
        self.folder, self.form, self.numbering = folder, form, numbering
        self._pieces = [piece for piece in pieces if piece.blocks]
        self.blocks: list[PoolBlock] = [block for piece in self._pieces for block in piece.blocks]
        self._places_of: dict[Part, tuple[Int64[np.ndarray, " samples"], ...]] = {}

    @property
    def has_maps(self) -> bool:
        """Whether hard labels are maps of classes; `hard_labels` are then the classes in each."""
        return self.numbering.signal == "grid"

    @property
    def num_taken(self) -> int:
        """The number of images that the source has given, broken ones included."""
        return sum(block.num_taken for block in self.blocks)

    @cached_property
    def image_shape(self) -> tuple[int, ...] | None:
        """The shape of every image; None when none could be decoded."""
        return next((block.image_shape for block in self.blocks if block.image_shape), None)

    def check_shapes(self) -> None:
        """Raises DataError where two pieces differ in the shape of their images."""
        filled = [piece for piece in self._pieces if piece.shape]
        for other in filled[1:]:
            if other.shape != filled[0].shape:
                firsts = [(self._first_key(piece), piece.shape or ()) for piece in (filled[0], other)]
                raise unequal(*firsts)

    def _first_key(self, piece: Piece) -> str:
        before = self._pieces[: self._pieces.index(piece)]
        place = sum(len(block) for each in before for block in each.blocks)
        return next(self.keys(np.array([place])))

    def clear(self) -> None:
        """Removes everything."""
        if not self.folder.exists():
            return
        gone = self.folder.with_suffix(".gone")  # renamed first: half a pool would pass for one
        shutil.rmtree(gone, ignore_errors=True)
        self.folder.rename(gone)
        shutil.rmtree(gone)
        self.blocks.clear()
        self._pieces.clear()

    def broken(self) -> Iterator[Broken]:
        """Yields the images that can't be decoded."""
        for block in self.blocks:
            yield from block.broken()

    def column(self, name: BlockColumn) -> np.ndarray:
        """Returns a fact about every image: the attribute of that name, from all blocks."""
        return np.concatenate([getattr(block, name) for block in self.blocks])

    def order(self) -> Int64[np.ndarray, " samples"]:
        """Returns all images in the order in which they become rows."""
        return row_order(self.column("sample_ids"), self.column("hard_labels"), self.column("checksums"))

    def keys(self, some: Int64[np.ndarray, " some"]) -> Iterator[str]:
        """Yields the keys of some images, which are given in the order of rows."""
        for key in self._read("keys", some):
            yield from opened(key)

    def contents(self, some: Int64[np.ndarray, " some"]) -> Iterator[Integer[np.ndarray, "..."]]:
        """Yields some images as they are kept, which are given in the order of rows.

        Raises:
            DataError: An image is not as it was kept, because the machine stopped before it had
            flushed it.
        """
        checksums = iter((self.column("checksums")[some] >> np.uint64(32)).tolist())
        if self.form.storage == "encoded":
            for content in self._read("images", some):
                self._check([content], checksums)
                yield np.frombuffer(content, np.uint8)
            return
        shape, dtype = self.image_shape or (), self.form.kind.dtype
        path, (files, begins, _) = self._path("images"), self._places("images")
        for rows in read_rows(path, files[some], begins[some], math.prod(shape) * dtype.itemsize):
            self._check(rows, checksums)
            yield rows.view(dtype).reshape(-1, *shape)

    def _check(self, contents: Iterable[Any], checksums: Iterator[int]) -> None:
        for content, checksum in zip(contents, checksums, strict=False):
            if zlib.crc32(content) != checksum:
                raise DataError(self.folder, "an image is not as it was kept", fix="delete it and run this again")

    def maps(self, some: Int64[np.ndarray, " some"]) -> Iterator[Maps]:
        """Yields the maps of classes of some images, which are given in the order of rows.

        Raises DataError as `contents` does.
        """
        shape, digests = (1, *(self.image_shape or ())[1:]), self.column("map_digests")[some].tolist()
        for content, digest in zip(self._read("maps", some), digests, strict=True):
            found = np.frombuffer(content, "<i2").reshape(shape)
            if map_digest(found[0]) != digest:
                raise DataError(self.folder, "a map is not as it was kept", fix="delete it and run this again")
            yield found

    def opinions(self) -> Shaped[np.ndarray, "images ..."]:
        """Returns the hard labels, by which equal images contradict each other; in place of maps
        there are numbers that tell them apart, -1 where nothing is known.
        """
        labels = self.column("hard_labels")
        if not self.has_maps:
            return labels
        numbers = (self.column("map_digests") >> np.uint64(1)).astype(np.int64)
        return np.where(is_labelled(labels), numbers, UNLABELLED)

    def _read(self, part: Part, some: Int64[np.ndarray, " some"]) -> Iterator[bytes]:
        """Yields a part of some samples, which are given in the order of rows."""
        files, begins, sizes = (column[some] for column in self._places(part))
        return read_things(self._path(part), files, begins, sizes)

    def _path(self, part: Part) -> Callable[[int], Path]:
        """Returns the function that returns the path of a file of some part by its number."""
        buckets: list[Buckets] = [getattr(piece, part) for piece in self._pieces]

        def path(number: int) -> Path:
            piece, bucket = divmod(number, _FILES)
            return buckets[piece].path(bucket)

        return path

    def _places(self, part: Part) -> tuple[Int64[np.ndarray, " samples"], ...]:
        """Returns the file of each sample's part, the place where it begins there and its length,
        both in bytes.
        """
        places = self._places_of.get(part)
        if places is None:
            each = [self._places_in(number, piece, part) for number, piece in enumerate(self._pieces)]
            places = tuple(map(np.concatenate, zip(*each, strict=True)))
            self._places_of = {part: places}  # one, to spare memory
        return places

    def _places_in(self, number: int, piece: Piece, part: Part) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        buckets = piece.bucket_numbers()
        lengths = piece.map_sizes() if part == "maps" else piece.column("sizes" if part == "images" else "key_sizes")
        # 1. The samples as they lie on disk, if all buckets were one file: a bucket keeps the order
        # of arrival.
        order = np.argsort(buckets, kind="stable")
        # 2. Where each begins in that file.
        begins = np.empty_like(lengths)
        begins[order] = np.cumsum(lengths[order]) - lengths[order]
        # 3. The same within its bucket: less where the bucket's first sample begins.
        first = np.searchsorted(buckets[order], buckets)
        return number * _FILES + buckets, begins - begins[order[first]], lengths

    def levels(self) -> Int64[np.ndarray, "channels 256"]:
        """Returns how often each pixel level is in the images that the source gave for training."""
        levels: Int64[np.ndarray, "channels 256"] = sum(block.levels() for block in self.blocks)  # type: ignore[assignment]
        return levels

    def count_levels(self, some: Int64[np.ndarray, " some"]) -> Int64[np.ndarray, "channels 256"]:
        """Returns how often each pixel level is in some images, which are given in the order of
        rows.
        """
        shape = self.image_shape
        assert shape is not None, "there are images"
        counts = LevelCounts(self.form.num_counted)
        for pixels in self._pixels(some, shape) if self.form.num_counted else ():
            for image in pixels:
                counts.add(image)
        return counts.total()

    def _pixels(self, some: Int64[np.ndarray, " some"], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
        if self.form.storage == "pixels":
            yield from self.contents(some)
            return
        channels: Channels = 3 if shape[0] == 3 else 1
        contents = (content.tobytes() for content in self.contents(some))
        for image in decode_all(contents, channels, os.cpu_count() or 1, (shape[1], shape[2])):
            assert not isinstance(image, DecodeError), "it was decoded before"
            yield image[None]


def decode_all(
    contents: Iterable[Content], channels: Literal[1, 3], workers: int, size: tuple[int, int] | None = None
) -> Iterator[UInt8[np.ndarray, "channels _ _"] | DecodeError]:
    """Yields `decode` of every content, in order; for a broken one its DecodeError.

    Several threads do the work.
    """
    return map_in_order(partial(_decode_or_say_why, channels=channels, size=size), contents, workers)


def _decode_or_say_why(
    content: Content, channels: Literal[1, 3], size: tuple[int, int] | None
) -> UInt8[np.ndarray, "channels _ _"] | DecodeError:
    try:
        return decode(content, channels, size)
    except DecodeError as error:
        return error
