"""The prepared data set on disk, as it is read: its splits and its manifest.

```
data/prepare/
  manifest.json    source, class names, image shape, mean and std of the training split, counts,
                   fingerprints
  train.zarr       images (pipeline/data/images.py), hard_labels int64 [samples], or int8 [samples,
                   classes] where classes are independent, and sample_ids uint64 [samples]
  val.zarr         the same, taken from the training set, stratified by class, unless the source
                   has a split of its own
  test.zarr        the same; only `evaluate` opens it
  samples.tsv      the image of the source that each sample comes from
  duplicates.tsv   samples whose pixels are the same, where there are any
  broken.tsv       images that could not be decoded and were skipped, where there are any
```
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped, UInt64

from pipeline.core.arrays import ArrayGroup
from pipeline.core.errors import DataError
from pipeline.data.images import open_images
from pipeline.data.manifest import DatasetManifest
from pipeline.data.sample_ids import FIX, check_images
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.data.splits import Split, SplitInMemory


class ImageDataset:
    """A prepared data set; splits are read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = DatasetManifest.read(folder / "manifest.json")

    def split(self, name: str) -> SplitInMemory:
        """Returns a split (`train`, `val`, `test`) in memory.

        Raises StoreError where a checksum does not match, and DataError where the split is not the
        one of the manifest.
        """
        group, manifest = self._group(name), self.manifest
        labels, ids = torch.from_numpy(group.read_whole("hard_labels")), group.read_whole("sample_ids")
        images = open_images(group, manifest.storage, manifest.image_shape, len(ids)).whole()
        split = SplitInMemory(torch.from_numpy(images), labels, ids)
        self._check(name, split)
        if manifest.storage == "pixels":
            check_images(images, ids, group.path)
        return split

    def stream(self, name: str) -> SplitOnDisk:
        """Returns a split that stays on disk.

        Raises StoreError where a file of it is lost or a checksum does not match, and DataError
        where the split is not the one of the manifest.
        """
        split = SplitOnDisk.open(self._group(name), self.manifest.storage, self.manifest.image_shape)
        self._check(name, split)
        return split

    def _group(self, name: str) -> ArrayGroup:
        return ArrayGroup.open(self.folder / f"{name}.zarr", made_by="prepare")

    def _check(self, name: str, split: Split) -> None:
        """Raises DataError where hard labels are of another signal or number of classes than the
        manifest's, or where the split has other samples or hard labels.
        """
        where = self.folder / f"{name}.zarr"
        columns = [len(self.manifest.class_names)] if self.manifest.signal == "binary" else []
        kind = torch.int8 if columns else torch.int64
        labels = split.hard_labels
        if labels.dtype != kind or list(labels.shape) != [len(split.sample_ids), *columns]:
            found, expected = (
                _described(labels.dtype, labels.shape),
                _described(kind, [len(split.sample_ids), *columns]),
            )
            expected = f"{expected} (the {self.manifest.signal} classes of its manifest)"
            raise DataError(where, f"hard labels {found}", expected=expected, fix=FIX)
        found, expected = split_fingerprint(split), self.manifest.fingerprints[name]
        if found != expected:
            raise DataError(where, f"fingerprint {found}", expected=f"{expected} (its manifest)", fix=FIX)


def _described(kind: torch.dtype, shape: Sequence[int]) -> str:
    return f"{str(kind).removeprefix('torch.')} {list(shape)}"


def split_fingerprint(split: Split) -> str:
    """Returns 32 hex digits of the samples and their hard labels, in their order."""
    return rows_fingerprint(split.sample_ids, split.hard_labels.numpy())


def rows_fingerprint(ids: UInt64[np.ndarray, " samples"], hard_labels: Shaped[np.ndarray, "samples ..."]) -> str:
    """Returns the fingerprint of a split that is yet to be written."""
    digest = hashlib.sha256(ids.astype("<u8", copy=False).data)
    little = hard_labels.astype(hard_labels.dtype.newbyteorder("<"), copy=False)
    digest.update(np.ascontiguousarray(little).data)
    return digest.hexdigest()[:32]
