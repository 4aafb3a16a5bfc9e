"""Pairs of IDX files, images and labels, gzipped or not, as MNIST, EMNIST and KMNIST are published.

References:
    Yann LeCun, Corinna Cortes, Christopher Burges, "The MNIST Database of Handwritten Digits",
    1998, section "File formats".
"""

import gzip
import struct
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Shaped
from pydantic.dataclasses import dataclass

from pipeline.core.bounds import Megabytes
from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.core.plain_files import need_small
from pipeline.preparation.sources.files import find_files
from pipeline.preparation.sources.inputs import need_file
from pipeline.preparation.sources.labels import Classes, ClassList, files_of, read_classes
from pipeline.preparation.sources.pixels import PixelSource, PixelSplit, channels_first

_UNSIGNED_BYTES = 8
_SUFFIXES = ("ubyte", "ubyte.gz", ".idx", ".idx.gz")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Idx(PixelSource):
    """The files `train-images*` and `train-labels*` of a folder, and those of `t10k` or `test`, and
    of `val`.

    `largest_mb` is the most that a packed file is unpacked to; None: what fits in memory.
    """

    path: str
    classes: ClassList = None
    largest_mb: Megabytes | None = None

    kind: ClassVar[str] = "idx"

    def files(self) -> Iterator[str]:
        yield from files_of(self.classes)
        yield from (str(file) for _, file in find_files(self.path, _SUFFIXES)[1])

    def load(self, raw: Path) -> tuple[Classes, list[PixelSplit]]:
        """Reads a file of images and one of labels for each split."""
        _, files = find_files(self.path, _SUFFIXES, self.notes)
        splits = []
        for split in dict.fromkeys(split for split, _ in files):
            of_split = [file for one, file in files if one == split]
            images, labels = (_only(of_split, word, f"{self.path}, {split}") for word in ("images", "labels"))
            pixels = channels_first(read_idx(images, self.largest_mb), None, images)
            splits.append(PixelSplit(split, pixels, _flat(read_idx(labels), labels), images.name.removesuffix(".gz")))
        return read_classes(self.classes), splits


def read_idx(path: Path, largest_mb: int | None = None) -> Shaped[np.ndarray, "..."]:
    """Returns the array of bytes in an IDX file, mapped unless the file is packed; raises
    SourceError.

    A packed file is unpacked as far as its header says, which may be `largest_mb` at most.
    """
    need_file(path)
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            start, shape = _header(file, path)
            size = prod(shape)
            if packed:
                need_small(size, largest_mb)
            content = file.read(size + 1) if packed else np.memmap(path, np.uint8, "r", offset=start)
    except (OSError, EOFError, ValueError, zlib.error) as error:  # ValueError: nothing can't be mapped
        raise SourceError(path, f"truncated or damaged ({error})", fix="fetch it again") from None
    values = np.frombuffer(content, np.uint8)
    if len(values) != size:
        found = f"{start + len(values):,} bytes{' or more' if packed and len(values) > size else ''}"
        raise SourceError(path, found, expected=f"{start} and those of an array of {shape}", fix="fetch it again")
    return values.reshape(shape)


def _header(file: Any, path: Path) -> tuple[int, tuple[int, ...]]:
    """Returns the length of an IDX file's header, and the shape of the array behind it."""
    if not (head := file.read(4)):
        raise EOFError("it is empty")
    zeros, kind, rank = struct.unpack(">HBB", head.ljust(4, b"\xff"))
    if zeros or kind != _UNSIGNED_BYTES:
        found = "not an IDX file" if zeros else f"IDX values of type {kind:#04x}"
        raise SourceError(path, found, expected="IDX with unsigned bytes (0x08)")
    return 4 + 4 * rank, struct.unpack(f">{rank}I", file.read(4 * rank).ljust(4 * rank, b"\0"))


def _only(files: list[Path], word: str, where: str) -> Path:
    fitting = [file for file in files if word in file.name.lower()]
    packed = [file for file in fitting if file.suffix != ".gz"] or fitting  # both are there where one was unpacked
    if len(packed) != 1:
        found = f"{len(packed)} files of {word}"
        raise SourceError(where, found, expected="one", fix="put the files of one data set into a folder of their own")
    return packed[0]


def _flat(labels: Shaped[np.ndarray, "..."], where: Path) -> Shaped[np.ndarray, " labels"]:
    if labels.ndim != 1:
        raise SourceError(where, f"labels in an array of {labels.shape}", expected="one number per image")
    return labels
