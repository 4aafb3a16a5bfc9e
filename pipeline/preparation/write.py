"""A data set written: its splits, file by file, and its manifest."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, Integer, Shaped, UInt64

from pipeline.core.arrays import ArrayGroup
from pipeline.core.files import read_json, write_json
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
        contents: Yields the images from a row on, in pieces: pixels, or the bytes of one image
            after the other.
        maps: Yields the maps of classes, in pieces, where hard labels are these; `hard_labels` may
            then be the classes in each.
    """

    hard_labels: Shaped[np.ndarray, "samples ..."]
    sample_ids: UInt64[np.ndarray, " samples"]
    sizes: Int64[np.ndarray, " samples"] | None
    contents: Callable[[int], Iterator[Integer[np.ndarray, "..."]]]
    maps: Callable[[], Iterator[Maps]] | None = None

    @classmethod
    def of(cls, split: SplitInMemory) -> "SplitRows":
        """Returns the rows of a split that is in memory."""
        images, labels = split.inputs.numpy(), split.hard_labels.numpy()
        maps = (lambda: iter([labels])) if labels.ndim == 3 else None
        return cls(labels, split.sample_ids, None, lambda start: iter([images[start:]]), maps)

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


def write_split(
    path: Path, rows: SplitRows, image_shape: Sequence[int], record: Path | None = None, kind: InputKind = IMAGE
) -> None:
    """Writes a split, a file at a time.

    Args:
        record: The file that remembers how far this has got; a killed run goes on from there.
    """
    group = ArrayGroup.create(path, {"format": FORMAT, "version": VERSION, "split": path.stem})
    if rows.sizes is None:
        _write_long(group, kind.array, (len(rows), *image_shape), rows.contents, record, kind.dtype)
    else:
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(rows.sizes)])
        _write_long(group, "encoded", (int(offsets[-1]),), lambda start: _bytes_from(rows, offsets, start), record)
        _write_whole(group, "offsets", offsets)
    if rows.maps is None:
        _write_whole(group, "hard_labels", rows.hard_labels)
    else:
        write_maps(maps_path(path), (len(rows), *image_shape[1:]), rows.maps())
    _write_whole(group, "sample_ids", rows.sample_ids)


def _write_whole(group: ArrayGroup, name: str, array: np.ndarray) -> None:
    group.create_array(name, array.shape, array.dtype, fill_value=0)
    group.write(name, array)


def _write_long(
    group: ArrayGroup,
    name: str,
    shape: tuple[int, ...],
    contents: Callable[[int], Iterable[np.ndarray]],
    record: Path | None,
    dtype: np.dtype[Any] = IMAGE.dtype,
) -> None:
    """Writes an array from pieces along its first axis, with one of its files in memory at
    a time.
    """
    done = read_json(record, made_by="prepare") if record and record.exists() else 0
    if done == 0:
        create_images(group, name, shape, dtype)
    for rows in _cut(contents(done), group.shard_rows(name), shape[0] - done):
        group.write(name, rows, slice(done, done + len(rows)))
        done += len(rows)
        if record:
            write_json(record, done)
    assert done == shape[0], "every image has come"


def _cut(pieces: Iterable[np.ndarray], at_most: int, total: int) -> Iterator[np.ndarray]:
    """Yields the same rows in pieces of one length, the last one apart; each is good until the next
    is asked for.
    """
    buffer, filled = np.empty(0), 0
    for piece in pieces:
        if filled == 0 and len(buffer) == 0:
            buffer = np.empty((min(at_most, total), *piece.shape[1:]), piece.dtype)
        while len(piece):
            some = piece[: len(buffer) - filled]
            buffer[filled : filled + len(some)] = some
            filled, piece = filled + len(some), piece[len(some) :]
            if filled == len(buffer):
                yield buffer
                filled = 0
    if filled:
        yield buffer[:filled]


def _bytes_from(rows: SplitRows, offsets: Int64[np.ndarray, " borders"], start: int) -> Iterator[np.ndarray]:
    """Yields the bytes of all images from a byte on: the first of them may begin in the middle of
    an image.
    """
    first = int(np.searchsorted(offsets, start, side="right")) - 1
    skipped = start - int(offsets[first])
    for content in rows.contents(first):
        yield content[skipped:]
        skipped = 0
