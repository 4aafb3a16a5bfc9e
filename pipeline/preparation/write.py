"""A data set written: its splits, file by file, and its manifest."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, Integer, Shaped, UInt64

from pipeline.core.arrays import ArrayGroup
from pipeline.core.sealed import write_sealed
from pipeline.data.dataset import pieces_fingerprint
from pipeline.data.images import create_images
from pipeline.data.input_kinds import IMAGE, InputKind
from pipeline.data.manifest import FORMAT, VERSION, DatasetManifest
from pipeline.data.map_files import Maps, maps_path, write_maps
from pipeline.data.signal_kinds import SignalKind
from pipeline.data.splits import SplitInMemory, is_labelled
from pipeline.preparation.statistics import channel_statistics


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

    @classmethod
    def of(cls, split: SplitInMemory) -> "SplitRows":
        """Returns the rows of a split that is in memory."""
        images, labels = split.inputs.numpy(), split.hard_labels.numpy()
        maps = (lambda: iter([labels])) if labels.ndim == 3 else None
        return cls(labels, split.sample_ids, None, lambda some: iter([images[some]]), maps)

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


class InputFacts(NamedTuple):
    """The facts that a manifest states about the inputs of a data set, as `DatasetManifest` has
    them: the shape of a sample, means and deviations of images, and `input` of others.
    """

    shape: list[int]
    mean: list[float]
    std: list[float]
    facts: dict[str, Any] | None = None


def write_dataset(
    folder: Path,
    source: str,
    class_names: Sequence[str],
    splits: Mapping[str, SplitInMemory],
    facts: dict[str, Any] | None = None,
) -> DatasetManifest:
    """Writes splits that are in memory, and their manifest, to `folder`.

    Args:
        facts: What is stated about samples that are no images; files beside them are the caller's.
    """
    rows = {name: SplitRows.of(split) for name, split in splits.items()}
    inputs = splits["train"].inputs
    mean, std = channel_statistics(inputs) if facts is None else ([], [])
    manifest = dataset_manifest(source, class_names, InputFacts(list(inputs.shape[1:]), mean, std, facts), rows)
    for name, split in rows.items():
        write_split(folder / f"{name}.zarr", split, manifest.image_shape, kind=manifest.kind)
    write_sealed(folder / "manifest.json", manifest.to_dict())
    return manifest


def dataset_manifest(
    source: str,
    class_names: Sequence[str],
    inputs: InputFacts,
    splits: Mapping[str, SplitRows],
    num_skipped: int = 0,
) -> DatasetManifest:
    """Returns the manifest of a data set of these splits."""
    train, val, test = (splits[name].sample_ids for name in ("train", "val", "test"))
    seen = np.unique(np.concatenate([train, val]))
    return DatasetManifest(
        source=source,
        class_names=list(class_names),
        image_shape=inputs.shape,
        mean=inputs.mean,
        std=inputs.std,
        num_samples={name: len(rows) for name, rows in splits.items()},
        fingerprints={name: rows.fingerprint for name, rows in splits.items()},
        num_repeated_in_train=len(train) + len(val) - len(seen),
        num_shared_with_test=int(np.isin(test, seen).sum()),
        num_shared_with_val=int(np.isin(val, train).sum()),
        num_unlabelled=int((~is_labelled(splits["train"].hard_labels)).sum()),
        num_skipped=num_skipped,
        storage="pixels" if splits["train"].sizes is None else "encoded",
        signal=splits["train"].signal,
        input=inputs.facts,
    )


def write_split(path: Path, rows: SplitRows, image_shape: Sequence[int], kind: InputKind = IMAGE) -> None:
    """Writes a split, a file at a time."""
    files = SplitFiles(path, rows, image_shape, kind)
    files.create()
    for number in range(len(files)):
        files.write(number)
    files.finish()


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


def _write_whole(group: ArrayGroup, name: str, array: np.ndarray) -> None:
    group.create_array(name, array.shape, array.dtype, fill_value=0)
    group.write(name, array)
