"""NumPy arrays in an .npz file or in .npy files: `train_images`, `train_labels`, the same of `val`
and `test`.

A data set of MedMNIST is such an .npz file.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Shaped
from pydantic.dataclasses import dataclass

from pipeline.core.bounds import Megabytes
from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.core.plain_files import read_packed
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.sources.inputs import need_file
from pipeline.preparation.sources.label_arrays import check_columns, entries, flat
from pipeline.preparation.sources.labels import Classes, ClassList, files_of, read_classes
from pipeline.preparation.sources.pixels import Layout, PixelSource, PixelSplit, channels_first
from pipeline.preparation.sources.split_names import SPLITS


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NumpyArrays(PixelSource):
    """The arrays of uint8 images (N,H,W, N,H,W,C or N,C,H,W) and labels of an .npz file or a folder
    of .npy files. Labels of several columns, or of one where `classes` has one name, are entries
    of independent classes.

    Files in a folder are mapped, so they may be larger than the memory; an .npz file is loaded
    whole, each array as far as its header says, which may be `largest_mb` at most (None: what fits
    in memory)."""

    path: str
    layout: Layout = None
    classes: ClassList = None
    largest_mb: Megabytes | None = None

    kind: ClassVar[str] = "arrays"

    def files(self) -> Iterator[str]:
        yield from files_of(self.classes)
        path = Path(self.path)
        yield from map(str, sorted(path.glob("*.npy")) if path.is_dir() else [path])

    @cached_property
    def signal(self) -> SignalKind:
        if self._classes.names and len(self._classes.names) == 1:
            return "binary"
        with _opened(Path(self.path)) as arrays:
            labels = self._read(arrays, "train_labels") if "train_labels" in arrays else np.empty(0)
        return "binary" if labels.ndim == 2 and labels.shape[1] > 1 else "categorical"

    @cached_property
    def _classes(self) -> Classes:
        return read_classes(self.classes, least=1)

    def load(self, raw: Path) -> tuple[Classes, list[PixelSplit]]:
        """Reads images and labels of each split that is there; `train` must be."""
        splits = []
        with _opened(Path(self.path)) as arrays:
            for split in SPLITS:
                names = [f"{split}_images", f"{split}_labels"]
                there = [name for name in names if name in arrays]
                if len(there) == 1 or (split == "train" and not there):
                    missing = next(name for name in names if name not in there)
                    raise SourceError(
                        self.path, f"no array {missing!r}", expected=f"{' and '.join(names)}, and so for test"
                    )
                if there:
                    images, labels = (self._read(arrays, name) for name in names)
                    where = f"{self.path}: {split}"
                    pixels = channels_first(images, self.layout, f"{where}_images")
                    made = entries if self.signal == "binary" else flat
                    splits.append(PixelSplit(split, pixels, made(labels, f"{where}_labels"), f"{split}_images"))
        return self._classes if self.signal == "categorical" else self._of_columns(splits), splits

    def _of_columns(self, splits: list[PixelSplit]) -> Classes:
        """Returns the classes of the columns, which are numbered where they have no names."""
        numbered = tuple(map(str, range(splits[0].labels.shape[1])))
        classes = Classes(numbered, of_numbers=True) if self._classes.names is None else self._classes
        for one in splits:
            check_columns(one.labels, classes.names or (), f"{self.path}: {one.split}_labels")
        return classes

    def _read(self, arrays: Mapping[str, Any], name: str) -> Shaped[np.ndarray, "..."]:
        try:
            if isinstance(arrays, np.lib.npyio.NpzFile):
                return read_packed(arrays, name, self.largest_mb)
            need_file(arrays[name])
            mapped: np.ndarray = np.load(arrays[name], mmap_mode="r", allow_pickle=False)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            found = f"truncated, damaged or not of numbers ({error})"
            raise SourceError(f"{self.path}: {name}", found) from None
        return mapped


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, Any]]:
    """Opens arrays by name: those of an .npz file, or the paths of the .npy files in a folder."""
    if path.is_dir():
        yield {file.stem: file for file in path.glob("*.npy")}
        return
    if not path.exists():
        raise SourceError(path, "no such file or folder", fix="correct `path` in the source's settings")
    need_file(path)
    with path.open("rb") as file:
        try:
            arrays = np.load(file, allow_pickle=False)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise SourceError(path, f"not an .npz file ({error})", expected=".npz, or a folder of .npy files") from None
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise SourceError(path, "a single array", expected=".npz, or the folder in which it is")
        yield arrays
