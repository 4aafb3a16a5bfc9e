"""The blocks of a pool: a few megabytes of images at a time, and the record of what they are."""

import hashlib
import io
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int8, Int64, Shaped, UInt64

from pipeline.core.errors import DataError
from pipeline.core.files import write_bytes
from pipeline.data.map_files import Maps
from pipeline.preparation.levels import LevelCounts
from pipeline.preparation.made import Broken, Made
from pipeline.preparation.maps import Map
from pipeline.preparation.numbering import Numbering
from pipeline.preparation.sources.split_names import SPLITS

BLOCK_BYTES = 32 * 1024 * 1024
_BLOCK_IMAGES = 65_536
_CHECKSUM_BYTES = 4
BlockColumn = Literal["splits", "hard_labels", "sample_ids", "sizes", "key_sizes", "checksums", "map_digests"]


@dataclass(frozen=True)
class PoolBlock:
    """The record of some images, one after the other as the source gave them.

    Attributes:
        path: The record's file, whole or absent.
        num_taken: The number of images that the source gave, broken ones included.
        bits: The images are dealt into 2^bits buckets.
        image_shape: None when every image is broken.
        splits: Positions in SPLITS.
        sizes: Bytes of each image as it is kept.
        key_sizes: Bytes of each key.
        checksums: CRC-32 of each image as it is kept, above that of its key.
        map_digests: Of each image's map of classes, where hard labels are these; `hard_labels` are
            then the classes in each.
    """

    path: Path
    num_taken: int
    bits: int
    image_shape: tuple[int, ...] | None
    splits: Int8[np.ndarray, " images"]
    hard_labels: Shaped[np.ndarray, "images ..."]
    sample_ids: UInt64[np.ndarray, " images"]
    sizes: Int64[np.ndarray, " images"]
    key_sizes: Int64[np.ndarray, " images"]
    checksums: UInt64[np.ndarray, " images"]
    map_digests: UInt64[np.ndarray, " maps"]

    @classmethod
    def load(cls, path: Path) -> "PoolBlock | None":
        """Reads a record; its levels and broken images stay on disk until they are asked for.

        Returns None where there is none, or where the machine stopped before it had flushed it.
        """
        if (arrays := _arrays(path)) is None:
            return None
        about, _, _, *columns = arrays
        num_taken, bits, *shape = about.tolist()
        return cls(path, num_taken, bits, tuple(shape) or None, *columns)

    def __len__(self) -> int:
        return len(self.splits)

    def levels(self) -> Int64[np.ndarray, "channels 256"]:
        """Returns how often each pixel level is in its training images."""
        return self._stored()[1]

    def broken(self) -> list[Broken]:
        """Returns the images that could not be decoded."""
        if self.num_taken == len(self):
            return []
        texts = opened(self._stored()[2].tobytes())
        return [Broken(*pair) for pair in zip(texts[::2], texts[1::2], strict=True)]

    def _stored(self) -> list[np.ndarray]:
        arrays = _arrays(self.path)
        if arrays is None:
            raise DataError(self.path, "not as it was written", fix="delete its folder and run this again")
        return arrays


@dataclass
class GrowingBlock:
    """A block that is being filled: its images and their keys, in memory."""

    num_counted: int
    made: list[Made] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    num_bytes: int = 0

    def __post_init__(self) -> None:
        self._levels = LevelCounts(self.num_counted)

    def add(self, image: Made | Broken) -> None:
        """Takes one more image."""
        if isinstance(image, Broken):
            self.broken.append(image)
            return
        if image.counted is not None:
            self._levels.add(image.counted)
            image.counted = None  # more than the image, where that is kept as a file
        self.made.append(image)
        self.keys.append(closed(image.key))
        self.num_bytes += image.num_bytes

    def __len__(self) -> int:
        return len(self.made) + len(self.broken)

    @property
    def is_full(self) -> bool:
        """Whether the next image belongs to another block."""
        return self.num_bytes >= BLOCK_BYTES or len(self) >= _BLOCK_IMAGES

    def maps(self, numbering: Numbering) -> Maps | None:
        """Returns the maps of classes; None where hard labels are no maps, or no image is whole."""
        return numbering.of_images(self.made) if numbering.signal == "grid" and self.made else None

    def save(self, path: Path, bits: int, numbering: Numbering) -> PoolBlock:
        """Writes the record and returns it."""
        made, maps = self.made, self.maps(numbering)
        shape = made[0].shape if made else ()
        texts = b"".join(closed(text) for one in self.broken for text in (one.key, one.reason))
        checksums = [image.crc << 32 | zlib.crc32(key) for image, key in zip(made, self.keys, strict=True)]
        columns: dict[BlockColumn, np.ndarray] = {
            "splits": np.array([SPLITS.index(image.split) for image in made], dtype=np.int8),
            "hard_labels": numbering.array([one.label for one in made]) if maps is None else numbering.entries(maps),
            "sample_ids": np.array([image.sample_id for image in made], dtype=np.uint64),
            "sizes": np.array([len(image.stored) for image in made], dtype=np.int64),
            "key_sizes": np.array([len(key) for key in self.keys], dtype=np.int64),
            "checksums": np.array(checksums, dtype=np.uint64),
            "map_digests": np.array([] if maps is None else list(map(map_digest, maps)), dtype=np.uint64),
        }
        about, broken = np.array([len(self), bits, *shape]), np.frombuffer(texts, np.uint8)
        file = io.BytesIO()
        for array in (about, self._levels.total(), broken, *(columns[name] for name in get_args(BlockColumn))):
            np.save(file, array)
        # Not flushed, nor are the images: that would be a wait for every block. Its checksum
        # shows whether it is whole.
        content = file.getvalue()
        write_bytes(path, content + zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "little"), flushed=False)
        block = PoolBlock.load(path)
        assert block is not None, "it was written"
        return block


def _arrays(path: Path) -> list[np.ndarray] | None:
    """Returns what a record holds: facts about the block, its levels, what is broken, and columns.
    None where it is not there as it was written.

    The arrays of NumPy lie one after the other: an .npz file takes ten times as long.
    """
    content = path.read_bytes() if path.exists() else b""
    arrays, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if not arrays or zlib.crc32(arrays) != int.from_bytes(checksum, "little"):
        return None
    file = io.BytesIO(arrays)
    return [np.load(file) for _ in range(3 + len(get_args(BlockColumn)))]


def map_digest(one: Map) -> int:
    """Returns 64 bits that another map of classes hardly has."""
    return int.from_bytes(hashlib.blake2b(one.astype("<i2").tobytes(), digest_size=8).digest(), "little")


def closed(text: str) -> bytes:
    """Returns a text as bytes that end in a 0, which no path has."""
    return f"{text}\0".encode("utf-8", "surrogateescape")


def opened(texts: bytes) -> list[str]:
    """Returns the texts that were closed, one after the other."""
    return texts.decode("utf-8", "surrogateescape").split("\0")[:-1]
