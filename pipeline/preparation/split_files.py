"""A split written file by file: its inputs, which several processes may write, and the rest."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Integer, Shaped, UInt64

from pipeline.core.arrays import ArrayGroup
from pipeline.data.hard_labels import pieces_fingerprint
from pipeline.data.images import create_images
from pipeline.data.input_kinds import IMAGE, InputKind
from pipeline.data.manifest import FORMAT, VERSION
from pipeline.data.map_files import Maps, maps_path, write_maps
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.assign import PoolSplits
from pipeline.preparation.pool import Pool
from pipeline.preparation.sources.split_names import SPLITS


@dataclass(frozen=True)
class SplitRows:
    """A split that is to be written: all of it in memory except its images.

    Attributes:
        sizes: Bytes of each encoded image; None when pixels are stored.
        contents: Yields the images of some consecutive rows, in pieces: pixels, or the bytes of one
            image after the other.
        maps: Yields the maps of classes, in pieces, where hard labels are these; `hard_labels` may
            then be the classes in each.
    """

    hard_labels: Shaped[np.ndarray, "samples ..."]
    sample_ids: UInt64[np.ndarray, " samples"]
    sizes: Int64[np.ndarray, " samples"] | None
    contents: Callable[[slice], Iterator[Integer[np.ndarray, "..."]]]
    maps: Callable[[], Iterator[Maps]] | None = None

    def __len__(self) -> int:
        return len(self.hard_labels)

    @property
    def signal(self) -> SignalKind:
        """The meaning of hard labels."""
        if self.maps is not None:
            return "grid"
        return "categorical" if self.hard_labels.ndim == 1 else "binary"

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the samples and their hard labels."""
        return pieces_fingerprint(self.sample_ids, [self.hard_labels] if self.maps is None else self.maps())


@dataclass(frozen=True)
class SplitFiles:
    """The files of a split: those of its inputs, which several processes may write, and the rest.

    Attributes:
        path: The group of arrays.
    """

    path: Path
    rows: SplitRows
    image_shape: Sequence[int]
    kind: InputKind = IMAGE

    def create(self) -> None:
        """Declares the array of inputs."""
        group = ArrayGroup.create(self.path, {"format": FORMAT, "version": VERSION, "split": self.path.stem})
        if self.rows.sizes is None:
            create_images(group, self._name, (len(self.rows), *self.image_shape), self.kind.dtype)
        else:
            create_images(group, self._name, (int(self._offsets[-1]),))

    @property
    def _name(self) -> str:
        return self.kind.array if self.rows.sizes is None else "encoded"

    @cached_property
    def _group(self) -> ArrayGroup:
        return ArrayGroup.reopen(self.path)

    @cached_property
    def _offsets(self) -> Int64[np.ndarray, " borders"]:
        sizes = self.rows.sizes
        assert sizes is not None, "images are encoded"
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])

    def __len__(self) -> int:
        """Returns the number of files of inputs."""
        return -(-self._group.shape(self._name)[0] // self._group.shard_rows(self._name))

    def write(self, number: int) -> None:
        """Writes a file of inputs."""
        group, at_once = self._group, self._group.shard_rows(self._name)
        start = number * at_once
        some = slice(start, min(start + at_once, group.shape(self._name)[0]))
        contents = self.rows.contents(some) if self.rows.sizes is None else self._bytes(some)
        group.write_file(self._name, number, contents)

    def _bytes(self, some: slice) -> Iterator[np.ndarray]:
        """Yields the bytes of the images that some bytes of the array are of: the first of them may
        begin in the middle of an image.
        """
        first = int(np.searchsorted(self._offsets, some.start, side="right")) - 1
        end = int(np.searchsorted(self._offsets, some.stop, side="left"))
        skipped = some.start - int(self._offsets[first])
        for content in self.rows.contents(slice(first, end)):
            yield content[skipped:]
            skipped = 0

    def finish(self) -> None:
        """Writes the hard labels and the sample ids."""
        rows = self.rows
        if rows.sizes is not None:
            _write_whole(self._group, "offsets", self._offsets)
        if rows.maps is None:
            _write_whole(self._group, "hard_labels", rows.hard_labels)
        else:
            write_maps(maps_path(self.path), (len(rows), *self.image_shape[1:]), rows.maps())
        _write_whole(self._group, "sample_ids", rows.sample_ids)


def files_of_splits(folder: Path, pool: Pool, splits: PoolSplits) -> dict[str, SplitFiles]:
    """Returns the files of the splits of a pool in a data set's folder."""
    shape = pool.image_shape
    assert shape is not None, "there are images"
    return {
        name: SplitFiles(folder / f"{name}.zarr", _split_rows(pool, splits[name]), shape, pool.form.kind)
        for name in SPLITS
    }


def _split_rows(pool: Pool, rows: Int64[np.ndarray, " images"]) -> SplitRows:
    labels, ids, sizes = (pool.column(name)[rows] for name in ("hard_labels", "sample_ids", "sizes"))
    encoded = pool.form.storage == "encoded"
    maps = (lambda: pool.maps(rows)) if pool.has_maps else None
    return SplitRows(labels, ids, sizes if encoded else None, lambda some: pool.contents(rows[some]), maps)


def _write_whole(group: ArrayGroup, name: str, array: np.ndarray) -> None:
    group.create_array(name, array.shape, array.dtype, fill_value=0)
    group.write(name, array)
