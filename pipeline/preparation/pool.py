"""Everything that a source gives, made ready and kept on disk, from which splits are written in another order.

One pass over the source fills a pool; a killed one goes on behind the last whole block. Images are dealt into buckets by
the random number that their place among the rows depends on, so that splits are written bucket by bucket. No more is
held in memory than a block or a bucket, what the decoding threads work on, and some 100 bytes a sample.

```
000000.npz       the record of the first block; a block counts when its record is there
000000.images    pixels [images, channels, height, width], or encoded files one after the other, of the first bucket
000000.keys      where its images were, each closed by a 0
```
"""

import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from pipeline.core.errors import DataError, SourceError, suggest
from pipeline.data.decoding import DecodeError, decode_all, map_in_order, num_channels
from pipeline.data.splits import UNLABELLED
from pipeline.preparation.blocks import BlockColumn, GrowingBlock, PoolBlock, opened
from pipeline.preparation.buckets import BUCKET_BYTES, Buckets
from pipeline.preparation.make import Broken, Channels, ImageForm, Made
from pipeline.preparation.order import row_draws, row_order
from pipeline.preparation.sources.base import RawImage
from pipeline.preparation.statistics import count_levels

_MOST_BITS = 15  # a bucket of a terabyte is 32 MB


class Pool:
    """The blocks and buckets in a folder; blocks that are not whole are forgotten.

    Args:
        count: Images that the source has; None: that is not known.
    """

    def __init__(self, folder: Path, form: ImageForm, class_names: Sequence[str], count: int | None) -> None:
        self.folder, self.form, self.class_names, self._count = folder, form, class_names, count
        self._images, self._keys = Buckets(folder, "images"), Buckets(folder, "keys")
        self.blocks: list[PoolBlock] = []
        while (path := self._next_path).exists():
            self.blocks.append(PoolBlock.load(path))
        while self.blocks and not self._is_whole():
            self.blocks.pop().path.unlink()
        if not self.blocks:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _next_path(self) -> Path:
        return self.folder / f"{len(self.blocks):06}.npz"

    def _is_whole(self) -> bool:
        """Whether buckets hold what the blocks say, now that they hold no more than that."""
        buckets, num_buckets = self._bucket_numbers(), 1 << self.blocks[0].bits

        def lengths(sizes: np.ndarray) -> Int64[np.ndarray, " buckets"]:
            return np.bincount(buckets, sizes, num_buckets).astype(np.int64)

        return self._images.cut(lengths(self.column("sizes"))) and self._keys.cut(lengths(self.column("key_sizes")))

    @property
    def num_taken(self) -> int:
        """How many images the source has given, broken ones included."""
        return sum(block.num_taken for block in self.blocks)

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        return next((block.image_shape for block in self.blocks if block.image_shape), None)

    def fill(self, images: Iterator[RawImage]) -> Iterator[int]:
        """Takes the images behind those that are here already; gives how many have come, again and again.

        Raises:
            DataError: Images differ in size, and none is set.
            SourceError: An image has a class that the source did not announce.
        """
        form, images = self._known_form(images)
        assert form.channels is not None, "it is known"
        growing = GrowingBlock(form.channels)
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(self.class_names)}
        numbers[None] = UNLABELLED
        first = self._first()
        for image in map_in_order(form.make, images, os.cpu_count() or 1):
            if isinstance(image, Made):
                first = first or (image.key, image.shape)
                _check(image, first, numbers)
            growing.add(image)
            if growing.is_full:
                self._put(growing, numbers)
                growing = GrowingBlock(form.channels)
            yield 1
        if len(growing):
            self._put(growing, numbers)

    def _known_form(self, images: Iterator[RawImage]) -> tuple[ImageForm, Iterator[RawImage]]:
        """The form with its channels, and the images again."""
        channels = self.blocks[0].channels if self.blocks else self.form.channels
        seen: list[RawImage] = []
        while channels is None and (raw := next(images, None)):
            seen.append(raw)
            try:
                channels = num_channels(raw.content)
            except DecodeError:
                continue
        form = ImageForm(3 if channels == 3 else 1, self.form.image_px, self.form.storage, self.form.longest_px)
        return form, chain(seen, images)

    def _first(self) -> tuple[str, tuple[int, ...]] | None:
        """Where the first image was, and its shape."""
        shape = self.image_shape
        return None if shape is None else (next(self.keys(np.zeros(1, np.int64))), shape)

    def _put(self, growing: GrowingBlock, numbers: dict[str | None, int]) -> None:
        """Deals a block's images into buckets; only its record makes them count."""
        bits = self.blocks[0].bits if self.blocks else _bits(growing, self._count)
        ids = np.array([image.sample_id for image in growing.made], dtype=np.uint64)
        buckets = row_draws(ids) >> (32 - bits)
        self._images.append(buckets, [image.stored for image in growing.made])
        self._keys.append(buckets, growing.keys)
        self.blocks.append(growing.save(self._next_path, bits, numbers))

    def clear(self) -> None:
        """Forgets everything."""
        gone = self.folder.with_suffix(".gone")
        shutil.rmtree(gone, ignore_errors=True)
        self.folder.rename(gone)
        shutil.rmtree(gone)
        self.blocks.clear()

    def broken(self) -> Iterator[Broken]:
        """The images that can't be decoded."""
        for block in self.blocks:
            yield from block.broken()

    def column(self, name: BlockColumn) -> np.ndarray:
        """What is said of every image: an attribute of all blocks."""
        return np.concatenate([getattr(block, name) for block in self.blocks])

    def order(self) -> Int64[np.ndarray, " samples"]:
        """Every image, in the order in which they become rows."""
        return row_order(self.column("sample_ids"), self.column("hard_labels"), self.column("checksums"))

    def keys(self, some: Int64[np.ndarray, " some"]) -> Iterator[str]:
        """Where some images were; they are in the order of rows."""
        for key in self._keys.read(*self._places(some, "key_sizes")):
            yield from opened(key)

    def contents(self, some: Int64[np.ndarray, " some"]) -> Iterator[UInt8[np.ndarray, "..."]]:
        """Some images as they are kept, one after the other; they are in the order of rows.

        Raises:
            DataError: One is not as it was kept: nothing is lost but what the machine had not flushed when it stopped.
        """
        shape = (1, *(self.image_shape or ())) if self.form.storage == "pixels" else -1
        checksums = (self.column("checksums")[some] >> np.uint64(32)).tolist()
        for content, checksum in zip(self._images.read(*self._places(some, "sizes")), checksums, strict=True):
            if zlib.crc32(content) != checksum:
                raise DataError(self.folder, "an image is not as it was kept", fix="delete it and run this again")
            yield np.frombuffer(content, np.uint8).reshape(shape)

    def _places(
        self, some: Int64[np.ndarray, " some"], sizes: BlockColumn
    ) -> tuple[Int64[np.ndarray, " some"], Int64[np.ndarray, " some"], Int64[np.ndarray, " some"]]:
        """In which bucket some images are, where in it, and how long."""
        buckets, lengths = self._bucket_numbers(), self.column(sizes)
        order = np.argsort(buckets, kind="stable")  # as they lie, were all buckets one
        begins = np.empty_like(lengths)
        begins[order] = np.cumsum(lengths[order]) - lengths[order]
        of_bucket = np.searchsorted(buckets[order], buckets[some])  # the first in it
        return buckets[some], begins[some] - begins[order[of_bucket]], lengths[some]

    def _bucket_numbers(self) -> Int64[np.ndarray, " samples"]:
        return row_draws(self.column("sample_ids")) >> (32 - self.blocks[0].bits)

    def levels(self) -> Int64[np.ndarray, "channels 256"]:
        """How often each pixel level is in the images that the source gave for training."""
        levels: Int64[np.ndarray, "channels 256"] = sum(block.levels() for block in self.blocks)  # type: ignore[assignment]
        return levels

    def count_levels(self, some: Int64[np.ndarray, " some"]) -> Int64[np.ndarray, "channels 256"]:
        """How often each pixel level is in some images; they are in the order of rows."""
        shape = self.image_shape
        assert shape is not None, "there are images"
        counts = np.zeros((shape[0], 256), np.int64)
        for pixels in self._pixels(some, shape):
            counts += count_levels(pixels)
        return counts

    def _pixels(self, some: Int64[np.ndarray, " some"], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
        if self.form.storage == "pixels":
            yield from self.contents(some)
            return
        channels: Channels = 3 if shape[0] == 3 else 1
        contents = (content.tobytes() for content in self.contents(some))
        for image in decode_all(contents, channels, os.cpu_count() or 1, (shape[1], shape[2])):
            assert not isinstance(image, DecodeError), "it was decoded before"
            yield image[None]


def _bits(growing: GrowingBlock, count: int | None) -> int:
    """Of so many buckets that none should become larger than BUCKET_BYTES, going by the first block."""
    if not growing.is_full:
        expected = growing.num_bytes  # that is all
    elif count is None or growing.num_bytes == 0:
        return _MOST_BITS
    else:
        expected = growing.num_bytes * count // len(growing)
    return min(_MOST_BITS, (expected // BUCKET_BYTES).bit_length())


def _check(image: Made, first: tuple[str, tuple[int, ...]], numbers: dict[str | None, int]) -> None:
    if image.label not in numbers:
        known = suggest(str(image.label), [str(name) for name in numbers if name is not None])
        raise SourceError(image.key, f"class {image.label!r}", expected=known)
    if image.shape != first[1]:
        sizes = [" x ".join(map(str, shape[1:])) for shape in (first[1], image.shape)]
        found = f"{sizes[0]} pixels (height x width), but {image.key} has {sizes[1]}"
        fix = "set prepare.image_px: [height, width] in params.yaml, to which all are scaled and cut"
        raise DataError(first[0], found, expected="images of one size", fix=fix)
