"""The prepared data set on disk: images, hard labels, sample ids and splits, with a manifest.

```
data/prepare/
  manifest.json    source, class names, image shape, mean and std of the training split, counts, fingerprints
  train.zarr       images uint8 [samples, channels, height, width], hard_labels int64 and sample_ids uint64 [samples]
  val.zarr         the same, taken from the training set, stratified by class
  test.zarr        the same; only `evaluate` opens it
```

A sample id is derived from the pixels alone, so labels follow their image wherever it goes.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8, UInt64

from pipeline.arrays import ArrayGroup
from pipeline.artifacts import read_json, write_json
from pipeline.errors import DataError
from pipeline.seeding import derive_seed, philox

FORMAT = "potstill-images"
VERSION = 1
SPLITS = ("train", "val", "test")
IMAGE_CHUNK_BYTES = 1 << 20  # what streaming reads at a time
_COUNTED_AT_ONCE = 4096  # images: counting takes 8 bytes a pixel
_MEND = "delete data/prepare and run `dvc repro prepare`"


@dataclass(frozen=True)
class Split:
    """One split in memory."""

    images: UInt8[torch.Tensor, "samples channels height width"]
    hard_labels: Int64[torch.Tensor, " samples"]
    sample_ids: UInt64[np.ndarray, " samples"]

    def __len__(self) -> int:
        return len(self.hard_labels)


class StreamedSplit:
    """One split on disk: its images are read as they are asked for, and nothing but hard labels and ids is held (17 bytes
    a sample).

    Images are compared with their ids when they are first read, which is 2 microseconds and 1.7 nanoseconds a pixel
    once; after that the checksum of each chunk must do.
    """

    def __init__(self, group: ArrayGroup) -> None:
        self._group = group
        self.hard_labels: Int64[torch.Tensor, " samples"] = torch.from_numpy(group.read_whole("hard_labels"))
        self.sample_ids: UInt64[np.ndarray, " samples"] = group.read_whole("sample_ids")
        group.check_files("images")
        #: Channels, height, width.
        self.image_shape = group.shape("images")[1:]
        #: Reading less than so many rows, or across their borders, reads all of them.
        self.chunk_rows = group.chunk_rows("images")
        self._is_checked = np.zeros(len(self.sample_ids), dtype=bool)

    def __len__(self) -> int:
        return len(self.hard_labels)

    def read(self, rows: range) -> UInt8[np.ndarray, "rows channels height width"]:
        """The images of consecutive rows; raises StoreError or DataError where they are damaged."""
        some = slice(rows.start, rows.stop)
        images = self._group.read("images", some)
        if not self._is_checked[some].all():
            check_images(images, self.sample_ids[some], self._group.path)
            self._is_checked[some] = True
        return images

    def take(self, rows: Int64[np.ndarray, " some"]) -> Split:
        """A few samples, in memory; each is read by itself."""
        images = np.empty((len(rows), *self.image_shape), dtype=np.uint8)
        for place, row in enumerate(rows.tolist()):
            images[place] = self.read(range(row, row + 1))[0]
        return Split(torch.from_numpy(images), self.hard_labels[rows], self.sample_ids[rows])

    def in_order(self, batch_size: int) -> Iterator[UInt8[torch.Tensor, "_ channels height width"]]:
        """The images as they are, some at a time."""
        for start in range(0, len(self), batch_size):
            yield torch.from_numpy(self.read(range(start, min(start + batch_size, len(self)))))


def find_samples(
    sample_ids: UInt64[np.ndarray, " samples"], among: UInt64[np.ndarray, " others"]
) -> Int64[np.ndarray, " samples"]:
    """Where each id stands in `among` (the first place of several), -1 where it does not."""
    if len(among) == 0:
        return np.full(len(sample_ids), -1, dtype=np.int64)
    by_id = np.argsort(among, kind="stable")
    place = by_id[np.searchsorted(among[by_id], sample_ids).clip(max=len(among) - 1)]
    return np.where(among[place] == sample_ids, place, -1)


@dataclass(frozen=True)
class DatasetManifest:
    """What is true of a prepared data set as a whole."""

    source: str
    class_names: list[str]
    image_shape: list[int]
    mean: list[float]
    std: list[float]
    num_samples: dict[str, int]
    fingerprints: dict[str, str]
    num_repeated_in_train: int
    num_shared_with_test: int
    format: str = FORMAT
    version: int = VERSION


class ImageDataset:
    """A prepared data set; splits are read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = _read_manifest(folder / "manifest.json")

    def split(self, name: str) -> Split:
        """A split (`train`, `val`, `test`) as tensors; raises StoreError where a checksum does not match."""
        group = self._group(name)
        split = Split(
            torch.from_numpy(group.read_whole("images")),
            torch.from_numpy(group.read_whole("hard_labels")),
            group.read_whole("sample_ids"),
        )
        self._check_fingerprint(name, split)
        check_images(split.images.numpy(), split.sample_ids, group.path)
        return split

    def stream(self, name: str) -> StreamedSplit:
        """A split that stays on disk; raises StoreError where a file of it is lost or a checksum does not match."""
        split = StreamedSplit(self._group(name))
        self._check_fingerprint(name, split)
        return split

    def image_bytes(self, *names: str) -> int:
        """What the images of some splits take in memory."""
        return sum(self.manifest.num_samples[name] for name in names) * math.prod(self.manifest.image_shape)

    def _group(self, name: str) -> ArrayGroup:
        return ArrayGroup.open(self.folder / f"{name}.zarr", made_by="prepare")

    def _check_fingerprint(self, name: str, split: Split | StreamedSplit) -> None:
        found, expected = split_fingerprint(split), self.manifest.fingerprints[name]
        if found != expected:
            where = self.folder / f"{name}.zarr"
            raise DataError(where, f"fingerprint {found}", expected=f"{expected} (its manifest)", mend=_MEND)


def write_dataset(folder: Path, source: str, class_names: tuple[str, ...], splits: dict[str, Split]) -> DatasetManifest:
    """Writes all splits and their manifest to `folder`."""
    mean, std = channel_statistics(splits["train"].images)
    train_ids = {int(i) for i in splits["train"].sample_ids} | {int(i) for i in splits["val"].sample_ids}
    manifest = DatasetManifest(
        source=source,
        class_names=list(class_names),
        image_shape=list(splits["train"].images.shape[1:]),
        mean=mean,
        std=std,
        num_samples={name: len(split) for name, split in splits.items()},
        fingerprints={name: split_fingerprint(split) for name, split in splits.items()},
        num_repeated_in_train=len(splits["train"]) + len(splits["val"]) - len(train_ids),
        num_shared_with_test=sum(int(i) in train_ids for i in splits["test"].sample_ids),
    )
    for name, split in splits.items():
        group = ArrayGroup.create(folder / f"{name}.zarr", {"format": FORMAT, "version": VERSION, "split": name})
        arrays = {
            "images": split.images.numpy(),
            "hard_labels": split.hard_labels.numpy(),
            "sample_ids": split.sample_ids,
        }
        for field, array in arrays.items():
            chunk_bytes = IMAGE_CHUNK_BYTES if field == "images" else None
            group.create_array(field, array.shape, array.dtype, fill_value=0, chunk_bytes=chunk_bytes)
            group.write(field, array)
    write_json(folder / "manifest.json", asdict(manifest))
    return manifest


def sample_ids(images: UInt8[np.ndarray, "samples channels height width"]) -> UInt64[np.ndarray, " samples"]:
    """64 bits of BLAKE2b over each image's shape and pixels; never 0, which is the fill value on disk."""
    shape = ",".join(map(str, images.shape[1:])).encode()
    digests = b"".join(hashlib.blake2b(image.tobytes(), digest_size=8, key=shape).digest() for image in images)
    ids = np.frombuffer(digests, dtype="<u8").astype(np.uint64)
    return np.where(ids == 0, np.uint64(1), ids)


def check_images(
    images: UInt8[np.ndarray, "samples channels height width"], ids: UInt64[np.ndarray, " samples"], where: object
) -> None:
    """Raises DataError where an image is not the one that its id was made of: a lost file, for one, reads as zeros."""
    if not np.array_equal(sample_ids(images), ids):
        raise DataError(where, "some images are not those of their sample ids", mend=_MEND)


def split_off_validation(
    hard_labels: Int64[np.ndarray, " samples"], ids: UInt64[np.ndarray, " samples"], fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " val"]]:
    """Row indices for training and validation: of every class the same fraction, and equal images on one side.

    Whether an image is held out depends on its content, its class's size and the seed, not on its position.
    """
    words = ids.view(np.int64)
    zero = np.zeros_like(words)
    draw, _, _, _ = philox(derive_seed(seed, "validation"), (words, words >> 32, zero, zero))
    held_out = np.zeros(len(ids), dtype=bool)
    for label, count in sorted(Counter(hard_labels.tolist()).items()):
        rows = np.flatnonzero(hard_labels == label)
        quota = round(fraction * count)
        if not 0 < quota < count:
            found = f"{count} training images, of which a validation fraction of {fraction} takes {quota}"
            mend = "add images or change prepare.val_fraction in params.yaml"
            raise DataError(f"class {label}", found, expected="at least one on either side", mend=mend)
        held_out[rows[np.argsort(draw[rows], kind="stable")[:quota]]] = True
    held_out = np.isin(ids, ids[held_out])
    for label in np.setdiff1d(hard_labels, hard_labels[~held_out]).tolist():
        raise DataError(f"class {label}", "all its images are equal, so none is left to train on", mend="add images")
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def channel_statistics(
    images: UInt8[torch.Tensor, "samples channels height width"],
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in units of 255 pixel levels; exact counts, so the same anywhere."""
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for some in images.split(_COUNTED_AT_ONCE):
        for channel, count in enumerate(counts):
            count += np.bincount(some[:, channel].numpy().ravel(), minlength=256)
    levels = np.arange(256, dtype=np.float64) / 255
    mean, std = [], []
    for share in counts / counts[0].sum():
        mean.append(float(share @ levels))
        std.append(max(float(np.sqrt(share @ (levels - mean[-1]) ** 2)), 1e-3))
    return mean, std


def split_fingerprint(split: Split | StreamedSplit) -> str:
    """32 hex digits of the samples and their hard labels, in their order."""
    digest = hashlib.sha256(split.sample_ids.astype("<u8", copy=False).data)
    digest.update(split.hard_labels.numpy().astype("<i8", copy=False).data)
    return digest.hexdigest()[:32]


def _read_manifest(path: Path) -> DatasetManifest:
    content = read_json(path, made_by="prepare")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(path, "not a data set's manifest", expected=f"format {FORMAT!r}", mend=_MEND)
    if content.get("version") != VERSION:
        raise DataError(path, f"version {content.get('version')}", expected=f"version {VERSION}", mend=_MEND)
    try:
        return DatasetManifest(**content)
    except TypeError as error:
        raise DataError(path, f"not a data set's manifest ({error})", mend=_MEND) from None
