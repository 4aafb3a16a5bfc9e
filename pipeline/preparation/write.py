"""Making a data set: the order of its rows, which images are held out, statistics of the pixels, and splits written to
disk file by file."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8, UInt64

from pipeline.core.arrays import ArrayGroup
from pipeline.core.errors import DataError
from pipeline.core.files import read_json, write_json
from pipeline.core.seeding import derive_seed, philox
from pipeline.data.dataset import FORMAT, VERSION, DatasetManifest, rows_fingerprint
from pipeline.data.images import create_images
from pipeline.data.splits import UNLABELLED, Split

_COUNTED_AT_ONCE = 4096  # images: counting takes 8 bytes a pixel
_DRAWN_AT_ONCE = 65_536  # samples: drawing takes some 100 bytes for each
_PURPOSES = {"val": "validation", "test": "test"}  # of the random numbers


@dataclass(frozen=True)
class SplitRows:
    """A split that is to be written: all of it in memory but for its images.

    Attributes:
        sizes: Bytes of each encoded image; None: pixels are stored.
        contents: The images from a row on, in pieces: pixels, or the bytes of one image after the other.
    """

    hard_labels: Int64[np.ndarray, " samples"]
    sample_ids: UInt64[np.ndarray, " samples"]
    sizes: Int64[np.ndarray, " samples"] | None
    contents: Callable[[int], Iterator[UInt8[np.ndarray, "..."]]]

    @classmethod
    def of(cls, split: Split) -> "SplitRows":
        """Of one whose images are in memory, too."""
        images = split.images.numpy()
        return cls(split.hard_labels.numpy(), split.sample_ids, None, lambda start: iter([images[start:]]))

    def __len__(self) -> int:
        return len(self.hard_labels)


def write_dataset(
    folder: Path, source: str, class_names: Sequence[str], splits: Mapping[str, Split]
) -> DatasetManifest:
    """Writes splits that are in memory, and their manifest, to `folder`."""
    rows = {name: SplitRows.of(split) for name, split in splits.items()}
    images = splits["train"].images
    manifest = describe(source, class_names, list(images.shape[1:]), channel_statistics(images), rows)
    for name, split in rows.items():
        write_split(folder / f"{name}.zarr", split, manifest.image_shape)
    write_json(folder / "manifest.json", asdict(manifest))
    return manifest


def describe(
    source: str,
    class_names: Sequence[str],
    image_shape: list[int],
    statistics: tuple[list[float], list[float]],
    splits: Mapping[str, SplitRows],
    num_skipped: int = 0,
) -> DatasetManifest:
    """The manifest of a data set of these splits."""
    train, val, test = (splits[name].sample_ids for name in ("train", "val", "test"))
    seen = np.unique(np.concatenate([train, val]))
    return DatasetManifest(
        source=source,
        class_names=list(class_names),
        image_shape=image_shape,
        mean=statistics[0],
        std=statistics[1],
        num_samples={name: len(rows) for name, rows in splits.items()},
        fingerprints={name: rows_fingerprint(rows.sample_ids, rows.hard_labels) for name, rows in splits.items()},
        num_repeated_in_train=len(train) + len(val) - len(seen),
        num_shared_with_test=int(np.isin(test, seen).sum()),
        num_shared_with_val=int(np.isin(val, train).sum()),
        num_unlabelled=int((splits["train"].hard_labels == UNLABELLED).sum()),
        num_skipped=num_skipped,
        storage="pixels" if splits["train"].sizes is None else "encoded",
    )


def write_split(path: Path, rows: SplitRows, image_shape: Sequence[int], record: Path | None = None) -> None:
    """Writes a split, a file at a time.

    Args:
        record: A file that remembers how far this has got, from which a killed run goes on.
    """
    group = ArrayGroup.create(path, {"format": FORMAT, "version": VERSION, "split": path.stem})
    if rows.sizes is None:
        _write_long(group, "images", (len(rows), *image_shape), rows.contents, record)
    else:
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(rows.sizes)])
        _write_long(group, "encoded", (int(offsets[-1]),), lambda start: _bytes_from(rows, offsets, start), record)
        _write_whole(group, "offsets", offsets)
    _write_whole(group, "hard_labels", rows.hard_labels)
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
) -> None:
    """An array of bytes from pieces along its first axis, holding no more than one of its files in memory."""
    done = read_json(record, made_by="prepare") if record and record.exists() else 0
    if done == 0:
        create_images(group, name, shape)
    for rows in _cut(contents(done), group.shard_rows(name), shape[0] - done):
        group.write(name, rows, slice(done, done + len(rows)))
        done += len(rows)
        if record:
            write_json(record, done)
    assert done == shape[0], "all that was announced has come"


def _cut(pieces: Iterable[np.ndarray], at_most: int, total: int) -> Iterator[np.ndarray]:
    """The same rows in pieces of one length, but for the last. Each is good until the next one is asked for."""
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
    """The bytes of all images from a byte on."""
    first = int(np.searchsorted(offsets, start, side="right")) - 1
    skipped = start - int(offsets[first])
    for content in rows.contents(first):
        yield content[skipped:]
        skipped = 0


def row_draws(ids: UInt64[np.ndarray, " samples"]) -> Int64[np.ndarray, " samples"]:
    """Random words in [0, 2^32) that put images in the order of their rows; they depend on the images alone."""
    return _draws(derive_seed(0, "rows"), ids)


def row_order(
    ids: UInt64[np.ndarray, " samples"],
    hard_labels: Int64[np.ndarray, " samples"],
    checksums: UInt64[np.ndarray, " samples"],
) -> Int64[np.ndarray, " samples"]:
    """The order in which samples become rows: ascending by `row_draws`, then by id, hard label and checksum.

    Training reads consecutive rows together, and what comes in class folders comes sorted by class. In this order any
    rows in a row are a random sample, and it is the same wherever the images come from, and in whatever order they do.
    """
    return np.lexsort((checksums, hard_labels, ids, row_draws(ids)))


def _draws(seed: int, ids: UInt64[np.ndarray, " samples"]) -> Int64[np.ndarray, " samples"]:
    draws = np.empty(len(ids), np.int64)
    for start in range(0, len(ids), _DRAWN_AT_ONCE):
        words = ids[start : start + _DRAWN_AT_ONCE].view(np.int64)
        zero = np.zeros_like(words)
        draws[start : start + len(words)] = philox(seed, (words, words >> 32, zero, zero))[0]
    return draws


def hold_out(
    split: str,
    hard_labels: Int64[np.ndarray, " samples"],
    ids: UInt64[np.ndarray, " samples"],
    fraction: float,
    seed: int,
    class_names: Sequence[str],
) -> Bool[np.ndarray, " samples"]:
    """Which samples are held out for `split` (val, test): of every class the same fraction, and equal images on one side.

    Whether an image is held out depends on its content, its class's size and the seed, not on its position. Unlabelled
    images are not, nor are images that are equal to one of these.

    Raises:
        DataError: A class has too few images to be on both sides.
    """
    draw = _draws(derive_seed(seed, _PURPOSES[split]), ids)
    held_out = np.zeros(len(ids), dtype=bool)
    may_be = ~np.isin(ids, ids[hard_labels == UNLABELLED])
    for label, count in sorted(Counter(hard_labels[hard_labels != UNLABELLED].tolist()).items()):
        rows = np.flatnonzero((hard_labels == label) & may_be)
        quota = round(fraction * count)
        if not 0 < quota < count or len(rows) == 0:
            found = f"{count} training images, of which prepare.{split}_fraction, {fraction}, takes {quota}"
            if len(rows) == 0:
                found = "each of its images is there unlabelled, too, so that none can be held out"
            fix = f"add images, change prepare.{split}_fraction in params.yaml, or give the source a {split} split"
            raise DataError(f"class {class_names[label]}", found, expected="at least one on either side", fix=fix)
        held_out[rows[np.argsort(draw[rows], kind="stable")[:quota]]] = True
    held_out = np.isin(ids, ids[held_out])
    for label in np.setdiff1d(hard_labels, hard_labels[~held_out]).tolist():
        found = "all its images are equal, so none is left to train on"
        raise DataError(f"class {class_names[label]}", found, fix="add images")
    return held_out


def channel_statistics(
    images: UInt8[torch.Tensor, "samples channels height width"],
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in units of 255 pixel levels; exact counts, so the same anywhere."""
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for some in images.split(_COUNTED_AT_ONCE):
        counts += count_levels(some.numpy())
    return statistics_of(counts)


def count_levels(images: UInt8[np.ndarray, "samples channels height width"]) -> Int64[np.ndarray, "channels 256"]:
    """How often each pixel level is there, by channel."""
    return np.stack(
        [np.bincount(images[:, channel].ravel(), minlength=256) for channel in range(images.shape[1])]
    ).astype(np.int64, copy=False)


def statistics_of(counts: Int64[np.ndarray, "channels 256"]) -> tuple[list[float], list[float]]:
    """`channel_statistics`, of counted levels."""
    levels = np.arange(256, dtype=np.float64) / 255
    mean, std = [], []
    for share in counts / counts[0].sum():
        mean.append(float(share @ levels))
        std.append(max(float(np.sqrt(share @ (levels - mean[-1]) ** 2)), 1e-3))
    return mean, std
