"""A piece of a source made ready and kept on disk: consecutive samples, filled by one process.

1. One pass over the samples fills the piece block by block. A killed run goes on behind the last
   whole block.
2. The samples of a block are dealt into buckets by the random number that decides their place among
   the rows, so that those which become neighbours lie together.

```
000000.record    the record of the first block; a block counts when its record is there
000000.images    the first bucket: pixels [images, channels, height, width], or encoded files
000000.keys      the keys of its images, each closed by a 0
000000.maps      the maps of classes of its images, int16, where hard labels are these
whole            the number of its blocks, when every sample of the piece is here
```

Nothing of it is flushed. Where the machine stops, what was not yet on disk shows: a record by its
checksum, a bucket by its length, a missing record by the number of blocks. It is made again.
"""

import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pipeline.core.errors import DataError, SourceError, suggest
from pipeline.core.files import read_json, write_bytes, write_json
from pipeline.data.sample_ids import row_draws
from pipeline.preparation.blocks import BlockColumn, GrowingBlock, PoolBlock
from pipeline.preparation.buckets import BUCKET_BYTES, Buckets
from pipeline.preparation.form import Form
from pipeline.preparation.made import Broken, Made, Wider
from pipeline.preparation.numbering import Numbering

_MOST_BITS = 15  # a bucket of a terabyte is 32 MB


class WiderImageError(Exception):
    """An error that an image asks for a wider form: `form`."""

    def __init__(self, image: Wider) -> None:
        self.form = image.form
        super().__init__(f"{image.key} {image.reason}")


class Piece:
    """The blocks and buckets in a folder; blocks that are not whole are forgotten.

    Args:
        count: The number of samples that it will have; None when that is not known.
        first: The file that names the first sample of all pieces, to whose shape others are
            compared.
    """

    def __init__(
        self, folder: Path, form: Form, numbering: Numbering, count: int | None, first: Path | None = None
    ) -> None:
        self.folder, self.form, self.numbering, self._count = folder, form, numbering, count
        self.images, self.keys, self.maps = (Buckets(folder, name) for name in ("images", "keys", "maps"))
        self._first_file = first
        self.blocks: list[PoolBlock] = []
        while (block := PoolBlock.load(self._next_path)) is not None:
            self.blocks.append(block)
        while self.blocks and not self._holds_blocks():
            self.blocks.pop().path.unlink()
        if not self.is_whole:
            (folder / "whole").unlink(missing_ok=True)
            if not self.blocks:
                shutil.rmtree(folder, ignore_errors=True)

    @property
    def _next_path(self) -> Path:
        return self.folder / f"{len(self.blocks):06}.record"

    @property
    def is_whole(self) -> bool:
        """Whether all of its samples are here."""
        return is_whole(self.folder) and (self.folder / "whole").read_text() == str(len(self.blocks))

    def _holds_blocks(self) -> bool:
        """Cuts buckets to what the blocks record, and returns whether they hold all of it."""
        buckets, num_buckets = self.bucket_numbers(), 1 << self.bits

        def lengths(sizes: np.ndarray) -> Int64[np.ndarray, " buckets"]:
            return np.bincount(buckets, sizes, num_buckets).astype(np.int64)

        sizes = (self.column("sizes"), self.column("key_sizes"), self.map_sizes())
        parts = zip((self.images, self.keys, self.maps), sizes, strict=True)
        return all(bucket.cut(lengths(each)) for bucket, each in parts)

    @property
    def bits(self) -> int:
        """The samples are dealt into 2^bits buckets."""
        return self.blocks[0].bits

    def column(self, name: BlockColumn) -> np.ndarray:
        """Returns a fact about every sample: the attribute of that name, from all blocks."""
        return np.concatenate([getattr(block, name) for block in self.blocks])

    def bucket_numbers(self) -> Int64[np.ndarray, " samples"]:
        """Returns the bucket of every sample."""
        return row_draws(self.column("sample_ids")) >> (32 - self.bits)

    def map_sizes(self) -> Int64[np.ndarray, " images"]:
        """Returns the bytes of each image's map of classes, 0 where hard labels are none."""
        size = 2 * math.prod((self.shape or (0, 0))[1:]) if self.numbering.signal == "grid" else 0
        return np.full(len(self.column("sizes")), size, np.int64)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of its samples; None when none could be decoded."""
        return next((block.image_shape for block in self.blocks if block.image_shape), None)

    @property
    def num_taken(self) -> int:
        """The number of samples that the source has given, broken ones included."""
        return sum(block.num_taken for block in self.blocks)

    def fill(self, made: Iterable[Made | Broken | Wider]) -> Iterator[int]:
        """Takes the samples behind those that are here already; yields 1 for each.

        Raises:
            DataError: Samples differ in size, and none is set.
            SourceError: A sample has a class that the source did not announce.
            WiderImageError: A sample does not fit into the form that was found.
        """
        counted = self.form.num_counted
        growing, first = GrowingBlock(counted), None
        for image in made:
            if isinstance(image, Made):
                first = first or self._first(image)
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
        write_bytes(self.folder / "whole", str(len(self.blocks)).encode(), flushed=False)

    def _first(self, image: Made) -> tuple[str, tuple[int, ...]]:
        """Returns key and shape of the first sample, to which others are compared."""
        file = self._first_file
        if file is None or not file.exists():
            if file is not None:
                write_json(file, [image.key, image.shape])
            return image.key, image.shape
        key, shape = read_json(file, made_by="prepare")
        return key, tuple(shape)

    def _put(self, growing: GrowingBlock) -> None:
        """Deals a block's samples into buckets, then writes its record, which makes them count."""
        bits = self.bits if self.blocks else _bits(growing, self._count)
        ids = np.array([image.sample_id for image in growing.made], dtype=np.uint64)
        buckets = row_draws(ids) >> (32 - bits)
        self.images.append(buckets, [image.stored for image in growing.made])
        self.keys.append(buckets, growing.keys)
        if (maps := growing.maps(self.numbering)) is not None:
            self.maps.append(buckets, [one.astype("<i2").tobytes() for one in maps])
        self.blocks.append(growing.save(self._next_path, bits, self.numbering))


def is_whole(folder: Path) -> bool:
    """Returns whether a folder has all samples of its piece, as far as its own note says."""
    return (folder / "whole").exists()


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
    first sample's.
    """
    if (name := numbering.unknown(image.label)) is not None:
        raise SourceError(image.key, f"class {name!r}", expected=suggest(name, list(numbering.class_names)))
    if image.shape != first[1]:
        raise unequal(first, (image.key, image.shape))


def unequal(first: tuple[str, tuple[int, ...]], other: tuple[str, tuple[int, ...]]) -> DataError:
    """Returns the error that two images differ in size."""
    sizes = [" x ".join(map(str, shape[1:])) for _, shape in (first, other)]
    found = f"{sizes[0]} pixels (height x width), but {other[0]} has {sizes[1]}"
    fix = "set prepare.image_px: [height, width] in params.yaml, to which all are scaled and cut"
    return DataError(first[0], found, expected="images of one size", fix=fix)
