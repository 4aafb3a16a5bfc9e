"""The pool: all images of a source, made ready and kept on disk, to be written as splits in another
order.

1. One pass over the source fills the pool block by block. A killed run goes on behind the last
   whole block.
2. The images of a block are dealt into buckets by the random number that decides their place among
   the rows.
3. Splits are written bucket by bucket, which reads the disk once from front to back.

Memory holds no more than a block or a bucket, the images in the decoding threads, and some 100
bytes a sample.

```
000000.npz       the record of the first block; a block counts when its record is there
000000.images    the first bucket: pixels [images, channels, height, width], or encoded files
000000.keys      the keys of its images, each closed by a 0
000000.maps      the maps of classes of its images, int16, where hard labels are these
```
"""

import math
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Integer, Shaped

from pipeline.core.errors import DataError, SourceError, suggest
from pipeline.core.threads import map_in_order
from pipeline.data.decoding import DecodeError, decode_all
from pipeline.data.map_files import Maps
from pipeline.data.sample_ids import row_draws
from pipeline.data.splits import UNLABELLED, is_labelled
from pipeline.preparation.blocks import BlockColumn, GrowingBlock, PoolBlock, map_digest, opened
from pipeline.preparation.buckets import BUCKET_BYTES, Buckets
from pipeline.preparation.form import Form
from pipeline.preparation.made import Broken, Made, Wider
from pipeline.preparation.make import Channels
from pipeline.preparation.numbering import Numbering
from pipeline.preparation.order import row_order
from pipeline.preparation.sources.base import RawImage
from pipeline.preparation.statistics import count_levels

_MOST_BITS = 15  # a bucket of a terabyte is 32 MB


class WiderImageError(Exception):
    """An error that an image asks for a wider form: `form`."""

    def __init__(self, image: Wider) -> None:
        self.form = image.form
        super().__init__(f"{image.key} {image.reason}")


class Pool:
    """The blocks and buckets in a folder; blocks that are not whole are forgotten.

    Args:
        count: The number of images that the source has; None when that is not known.
    """

    def __init__(self, folder: Path, form: Form, numbering: Numbering, count: int | None) -> None:
        self.folder, self.form, self.numbering, self._count = folder, form, numbering, count
        self._images, self._keys, self._maps = (Buckets(folder, name) for name in ("images", "keys", "maps"))
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
        """Cuts buckets to what the blocks record, and returns whether they hold all of it."""
        buckets, num_buckets = self._bucket_numbers(), 1 << self.blocks[0].bits

        def lengths(sizes: np.ndarray) -> Int64[np.ndarray, " buckets"]:
            return np.bincount(buckets, sizes, num_buckets).astype(np.int64)

        sizes = (self.column("sizes"), self.column("key_sizes"), self._map_sizes())
        parts = zip((self._images, self._keys, self._maps), sizes, strict=True)
        return all(bucket.cut(lengths(each)) for bucket, each in parts)

    def _map_sizes(self) -> Int64[np.ndarray, " images"]:
        """Returns the bytes of each image's map of classes, 0 where hard labels are none."""
        size = 2 * math.prod((self.image_shape or (0, 0))[1:]) if self.has_maps else 0
        return np.full(len(self.column("sizes")), size, np.int64)

    @property
    def has_maps(self) -> bool:
        """Whether hard labels are maps of classes; `hard_labels` are then the classes in each."""
        return self.numbering.signal == "grid"

    @property
    def num_taken(self) -> int:
        """The number of images that the source has given, broken ones included."""
        return sum(block.num_taken for block in self.blocks)

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The shape of every image; None when none could be decoded."""
        return next((block.image_shape for block in self.blocks if block.image_shape), None)

    def fill(self, images: Iterator[RawImage]) -> Iterator[int]:
        """Takes the images behind those that are here already; yields 1 for each.

        Raises:
            DataError: Images differ in size, and none is set.
            SourceError: An image has a class that the source did not announce.
            WiderImageError: An image does not fit into the form that was found.
        """
        counted = self.form.num_counted
        growing = GrowingBlock(counted)
        first = self._first()
        for image in map_in_order(self.form.make, images, os.cpu_count() or 1):
            if isinstance(image, Made):
                first = first or (image.key, image.shape)
                _check(image, first, self.numbering)
            elif isinstance(image, Wider):
                raise WiderImageError(image)
            growing.add(image)
            if growing.is_full:
                self._put(growing)
                growing = GrowingBlock(counted)
            yield 1
        if len(growing):
            self._put(growing)

    def _first(self) -> tuple[str, tuple[int, ...]] | None:
        """Returns key and shape of the first image, to which others are compared."""
        shape = self.image_shape
        return None if shape is None else (next(self.keys(np.zeros(1, np.int64))), shape)

    def _put(self, growing: GrowingBlock) -> None:
        """Deals a block's images into buckets, then writes its record, which makes them count."""
        bits = self.blocks[0].bits if self.blocks else _bits(growing, self._count)
        ids = np.array([image.sample_id for image in growing.made], dtype=np.uint64)
        buckets = row_draws(ids) >> (32 - bits)
        self._images.append(buckets, [image.stored for image in growing.made])
        self._keys.append(buckets, growing.keys)
        if (maps := growing.maps(self.numbering)) is not None:
            self._maps.append(buckets, [one.astype("<i2").tobytes() for one in maps])
        self.blocks.append(growing.save(self._next_path, bits, self.numbering))

    def clear(self) -> None:
        """Removes everything."""
        if not self.folder.exists():
            return
        gone = self.folder.with_suffix(".gone")  # renamed first: half a pool would pass for one
        shutil.rmtree(gone, ignore_errors=True)
        self.folder.rename(gone)
        shutil.rmtree(gone)
        self.blocks.clear()

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
        for key in self._keys.read(*self._places(some, self.column("key_sizes"))):
            yield from opened(key)

    def contents(self, some: Int64[np.ndarray, " some"]) -> Iterator[Integer[np.ndarray, "..."]]:
        """Yields some images as they are kept, which are given in the order of rows.

        Raises:
            DataError: An image is not as it was kept, because the machine stopped before it had
            flushed it.
        """
        shape: tuple[int, ...] = (-1,)
        dtype = np.dtype(np.uint8)
        if self.form.storage == "pixels":
            shape, dtype = (1, *(self.image_shape or ())), self.form.kind.dtype
        checksums = (self.column("checksums")[some] >> np.uint64(32)).tolist()
        for content, checksum in zip(
            self._images.read(*self._places(some, self.column("sizes"))), checksums, strict=True
        ):
            if zlib.crc32(content) != checksum:
                raise DataError(self.folder, "an image is not as it was kept", fix="delete it and run this again")
            yield np.frombuffer(content, dtype).reshape(shape)

    def maps(self, some: Int64[np.ndarray, " some"]) -> Iterator[Maps]:
        """Yields the maps of classes of some images, which are given in the order of rows.

        Raises DataError as `contents` does.
        """
        shape, digests = (1, *(self.image_shape or ())[1:]), self.column("map_digests")[some].tolist()
        for content, digest in zip(self._maps.read(*self._places(some, self._map_sizes())), digests, strict=True):
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

    def _places(
        self, some: Int64[np.ndarray, " some"], lengths: Int64[np.ndarray, " images"]
    ) -> tuple[Int64[np.ndarray, " some"], Int64[np.ndarray, " some"], Int64[np.ndarray, " some"]]:
        """Returns each image's bucket, and where it begins there and its length, both in bytes."""
        buckets = self._bucket_numbers()
        # 1. The images as they lie on disk, if all buckets were one file: a bucket keeps the order
        # of arrival.
        order = np.argsort(buckets, kind="stable")
        # 2. Where each begins in that file.
        begins = np.empty_like(lengths)
        begins[order] = np.cumsum(lengths[order]) - lengths[order]
        # 3. The same within its bucket: less where the bucket's first image begins.
        of_bucket = np.searchsorted(buckets[order], buckets[some])
        return buckets[some], begins[some] - begins[order[of_bucket]], lengths[some]

    def _bucket_numbers(self) -> Int64[np.ndarray, " samples"]:
        return row_draws(self.column("sample_ids")) >> (32 - self.blocks[0].bits)

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
        counts = np.zeros((self.form.num_counted, 256), np.int64)
        if not len(counts):
            return counts
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
    """Returns how many bits number the buckets, if none is to be larger than BUCKET_BYTES, from the
    first block.
    """
    if not growing.is_full:
        expected = growing.num_bytes  # the first block is all
    elif count is None or growing.num_bytes == 0:
        return _MOST_BITS
    else:
        expected = growing.num_bytes * count // len(growing)
    return min(_MOST_BITS, (expected // BUCKET_BYTES).bit_length())


def _check(image: Made, first: tuple[str, tuple[int, ...]], numbering: Numbering) -> None:
    """Raises SourceError for a class that was not announced, DataError for another shape than the
    first image's.
    """
    if (name := numbering.unknown(image.label)) is not None:
        raise SourceError(image.key, f"class {name!r}", expected=suggest(name, list(numbering.class_names)))
    if image.shape != first[1]:
        sizes = [" x ".join(map(str, shape[1:])) for shape in (first[1], image.shape)]
        found = f"{sizes[0]} pixels (height x width), but {image.key} has {sizes[1]}"
        fix = "set prepare.image_px: [height, width] in params.yaml, to which all are scaled and cut"
        raise DataError(first[0], found, expected="images of one size", fix=fix)
