"""CIFAR-10 and CIFAR-100 in their binary distribution: a byte or two of labels, then 3 x 32 x 32
pixels, image by image.

References:
    Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, chapter 3.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import UInt8
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.preparation.sources.inputs import need_file
from pipeline.preparation.sources.labels import Classes, read_classes
from pipeline.preparation.sources.pixels import PixelSource, PixelSplit

_SHAPE = (3, 32, 32)
_COLUMNS_OF_100 = ("coarse", "fine")
_BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Cifar(PixelSource):
    """The .bin files of a folder, and the class names in the text file beside them.

    CIFAR-100 has `fine` labels (100 classes) and `coarse` ones (20); CIFAR-10 has fine ones alone.
    """

    path: str
    labels: Literal["fine", "coarse"] = "fine"

    kind: ClassVar[str] = "cifar"

    def files(self) -> Iterator[str]:
        yield from sorted(str(file) for file in Path(self.path).glob("*") if file.suffix in (".bin", ".txt"))

    def load(self, raw: Path) -> tuple[Classes, list[PixelSplit]]:
        """Maps the files; class names are numbers when their text file is missing."""
        folder = Path(self.path)
        if (folder / "train.bin").exists():
            column = _COLUMNS_OF_100.index(self.labels)
            files, num_columns = [("train", "train.bin"), ("test", "test.bin")], len(_COLUMNS_OF_100)
            names, num_classes = f"{self.labels}_label_names.txt", (20, 100)[column]
        else:
            _check_is_cifar10(folder, self.labels)
            files, num_columns = [*(("train", name) for name in _BATCHES), ("test", "test_batch.bin")], 1
            names, num_classes, column = "batches.meta.txt", 10, 0
        splits = []
        for split, name in files:
            records = _records(folder / name, num_columns)
            pixels = records[:, num_columns:].reshape(-1, *_SHAPE)
            splits.append(PixelSplit(split, pixels, records[:, column], name))
        if (folder / names).exists():
            return read_classes(str(folder / names)), splits
        return Classes(tuple(map(str, range(num_classes)))), splits


def _check_is_cifar10(folder: Path, labels: str) -> None:
    if not (folder / _BATCHES[0]).exists():
        found = "no data_batch_1.bin (CIFAR-10) or train.bin (CIFAR-100)"
        fix = "fetch the binary version; the one for Python is pickled, which is not read because it could run code"
        raise SourceError(folder, found, fix=fix)
    if labels != "fine":
        raise SourceError(folder, f"CIFAR-10, which has no {labels} labels", expected="labels: fine")


def _records(path: Path, num_columns: int) -> UInt8[np.ndarray, "images bytes"]:
    """Returns a row for each image: its labels, then its pixels."""
    if not path.exists():
        raise SourceError(path, "no such file", fix="fetch the data set again")
    need_file(path)
    record, size = num_columns + math.prod(_SHAPE), path.stat().st_size
    if size == 0 or size % record:
        expected = f"a multiple of {record:,} (an image and its labels)"
        raise SourceError(path, f"{size:,} bytes", expected=expected, fix="fetch it again")
    return np.memmap(path, np.uint8, "r").reshape(-1, record)
