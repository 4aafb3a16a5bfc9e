"""The prepared data set on disk, as it is read: images, hard labels, sample ids and splits, with a manifest.

```
data/prepare/
  manifest.json    source, class names, image shape, mean and std of the training split, counts, fingerprints
  train.zarr       images (pipeline/storage.py), hard_labels int64 and sample_ids uint64 [samples]
  val.zarr         the same, taken from the training set, stratified by class, unless the source has one
  test.zarr        the same; only `evaluate` opens it
  samples.tsv      which image of the source each sample is
  duplicates.tsv   samples whose pixels are the same, where there are any
  broken.tsv       images that could not be decoded and were skipped, where there are any
```

A sample id is derived from the pixels that training sees alone, so labels follow their image wherever it goes. The hard
label of an unlabelled image is -1; there are such in the training split only.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8, UInt64

from pipeline.arrays import ArrayGroup
from pipeline.artifacts import read_json
from pipeline.errors import DataError
from pipeline.storage import Storage, StoredImages, open_images

FORMAT = "potstill-images"
VERSION = 1
SPLITS = ("train", "val", "test")
UNLABELLED = -1  # in place of a hard label
_MEND = "delete data/prepare and run `dvc repro prepare`"


@dataclass(frozen=True)
class Split:
    """One split in memory: this machine's, or that of a device."""

    images: UInt8[torch.Tensor, "samples channels height width"]
    hard_labels: Int64[torch.Tensor, " samples"]
    sample_ids: UInt64[np.ndarray, " samples"]

    def __len__(self) -> int:
        return len(self.hard_labels)

    def labelled(self) -> "Split":
        """The labelled samples; this very split where all are."""
        rows = np.flatnonzero(self.hard_labels.numpy() != UNLABELLED)
        if len(rows) == len(self):
            return self
        return Split(self.images[rows], self.hard_labels[rows], self.sample_ids[rows])

    def to(self, device: torch.device) -> "Split":
        """The same samples with images and hard labels on a device, where views are rendered then; this very split where
        they are."""
        if self.images.device == device:
            return self
        return Split(self.images.to(device), self.hard_labels.to(device), self.sample_ids)


class StreamedSplit:
    """One split on disk: its images are read as they are asked for, and nothing but hard labels and ids is held (17 bytes
    a sample; 8 more where images are encoded).

    Pixels are compared with their ids when they are first read, which is 2 microseconds and 1.7 nanoseconds a pixel
    once; after that the checksum of each chunk must do. It must always do for encoded images, because another version of
    a decoder may round otherwise; the canaries of a store tell one that does worse.
    """

    def __init__(self, group: ArrayGroup, storage: Storage, shape: list[int]) -> None:
        self._path = group.path
        self.hard_labels: Int64[torch.Tensor, " samples"] = torch.from_numpy(group.read_whole("hard_labels"))
        self.sample_ids: UInt64[np.ndarray, " samples"] = group.read_whole("sample_ids")
        self._images: StoredImages = open_images(group, storage, shape, len(self.sample_ids))
        #: Channels, height, width.
        self.image_shape = self._images.shape
        #: Reading less than so many rows, or across their borders, reads all of them.
        self.chunk_rows = self._images.chunk_rows
        self._is_checked: Bool[np.ndarray, " samples"] = np.full(len(self.sample_ids), storage == "encoded")

    def __len__(self) -> int:
        return len(self.hard_labels)

    def read(self, rows: range) -> UInt8[np.ndarray, "rows channels height width"]:
        """The images of consecutive rows; raises StoreError or DataError where they are damaged."""
        return self._check(slice(rows.start, rows.stop), self._images.read(rows))

    def take(self, rows: Int64[np.ndarray, " some"]) -> Split:
        """A few samples, in memory; each is read by itself."""
        images = self._check(rows, self._images.take(rows))
        return Split(torch.from_numpy(images), self.hard_labels[rows], self.sample_ids[rows])

    def in_order(
        self, batch_size: int, places: slice = slice(None)
    ) -> Iterator[UInt8[torch.Tensor, "_ channels height width"]]:
        """The images as they are, all or those of some consecutive rows, a few at a time."""
        rows = range(len(self))[places]
        for start in range(rows.start, rows.stop, batch_size):
            yield torch.from_numpy(self.read(range(start, min(start + batch_size, rows.stop))))

    def _check(
        self, rows: slice | Int64[np.ndarray, " some"], images: UInt8[np.ndarray, "some channels height width"]
    ) -> UInt8[np.ndarray, "some channels height width"]:
        if not self._is_checked[rows].all():
            check_images(images, self.sample_ids[rows], self._path)
            self._is_checked[rows] = True
        return images


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
    num_shared_with_val: int = 0
    num_unlabelled: int = 0
    num_skipped: int = 0
    storage: Storage = "pixels"
    format: str = FORMAT
    version: int = VERSION


class ImageDataset:
    """A prepared data set; splits are read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = _read_manifest(folder / "manifest.json")

    def split(self, name: str) -> Split:
        """A split (`train`, `val`, `test`) as tensors; raises StoreError where a checksum does not match."""
        group, manifest = self._group(name), self.manifest
        labels, ids = torch.from_numpy(group.read_whole("hard_labels")), group.read_whole("sample_ids")
        images = open_images(group, manifest.storage, manifest.image_shape, len(ids)).whole()
        split = Split(torch.from_numpy(images), labels, ids)
        self._check_fingerprint(name, split)
        if manifest.storage == "pixels":
            check_images(images, ids, group.path)
        return split

    def stream(self, name: str) -> StreamedSplit:
        """A split that stays on disk; raises StoreError where a file of it is lost or a checksum does not match."""
        split = StreamedSplit(self._group(name), self.manifest.storage, self.manifest.image_shape)
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


def split_fingerprint(split: Split | StreamedSplit) -> str:
    """32 hex digits of the samples and their hard labels, in their order."""
    return rows_fingerprint(split.sample_ids, split.hard_labels.numpy())


def rows_fingerprint(ids: UInt64[np.ndarray, " samples"], hard_labels: Int64[np.ndarray, " samples"]) -> str:
    """The same, of a split that is yet to be written."""
    digest = hashlib.sha256(ids.astype("<u8", copy=False).data)
    digest.update(hard_labels.astype("<i8", copy=False).data)
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
