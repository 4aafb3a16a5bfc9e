"""The prepared data set on disk, as it is read: its splits and its manifest.

```
data/prepare/
  manifest.json    source, class names, image shape, mean and std of the training split, counts,
                   fingerprints
  train.zarr       images (pipeline/data/images.py), hard_labels int64 [samples], or int8 [samples,
                   classes] where classes are independent, and sample_ids uint64 [samples]
  train.maps.npy   in place of these hard_labels, where each pixel has a class: int16 [samples,
                   height, width]
  val.zarr         the same, taken from the training set, stratified by class, unless the source
                   has a split of its own
  test.zarr        the same; only `evaluate` opens it
  samples.tsv      the image of the source that each sample comes from
  duplicates.tsv   samples whose pixels are the same, where there are any
  broken.tsv       images that could not be decoded and were skipped, where there are any
```
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.core.arrays import ArrayGroup
from pipeline.core.errors import DataError
from pipeline.data.content import Content
from pipeline.data.content_files import read_content
from pipeline.data.hard_labels import rows_fingerprint
from pipeline.data.images import open_images
from pipeline.data.manifest import DatasetManifest
from pipeline.data.map_files import maps_path, read_maps
from pipeline.data.sample_ids import FIX
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.data.splits import HardLabels, Split, SplitInMemory


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
        labels, ids = self._hard_labels(group, is_held=True), group.read_whole("sample_ids")
        content = self.content
        inputs = open_images(group, manifest.storage, manifest.image_shape, len(ids), content).whole()
        self._check_inputs(group, inputs.dtype, inputs.shape[1:])
        split = SplitInMemory(torch.from_numpy(inputs), labels, ids, content)
        self._check(name, split)
        if manifest.storage == "pixels":
            content.check(inputs, ids, group.path)
        return split

    def stream(self, name: str, kept_bytes: int = 0) -> SplitOnDisk:
        """Returns a split that stays on disk.

        Raises StoreError where a file of it is lost or a checksum does not match, and DataError
        where the split is not the one of the manifest.

        Args:
            kept_bytes: The memory for files of encoded images that are read once and kept.
        """
        group = self._group(name)
        labels = self._hard_labels(group, is_held=False)
        shape, storage = self.manifest.image_shape, self.manifest.storage
        split = SplitOnDisk.open(group, labels, storage, shape, self.content, kept_bytes)
        self._check(name, split)
        return split

    @cached_property
    def content(self) -> Content:
        """The things that inputs stand for; raises DataError where the words of texts are lost or
        others.
        """
        return read_content(self.folder, self.manifest)

    def _check_inputs(self, group: ArrayGroup, dtype: np.dtype[Any], shape: Sequence[int]) -> None:
        kind = self.manifest.kind
        if dtype != kind.dtype or tuple(shape) != self.manifest.input_shape:
            expected = f"{kind.dtype} {list(self.manifest.input_shape)}, as in its manifest"
            raise DataError(group.path, f"{kind.things} of {dtype} {list(shape)}", expected=expected, fix=FIX)

    def _group(self, name: str) -> ArrayGroup:
        return ArrayGroup.open(self.folder / f"{name}.zarr", made_by="prepare")

    def _hard_labels(self, group: ArrayGroup, *, is_held: bool) -> HardLabels:
        """Returns hard labels as they are on disk; maps are held only where asked."""
        if self.manifest.signal == "grid":
            return torch.from_numpy(read_maps(maps_path(group.path), is_held=is_held))
        return torch.from_numpy(group.read_whole("hard_labels"))

    def _check(self, name: str, split: Split) -> None:
        """Raises DataError where hard labels are of another signal or number of classes than the
        manifest's, or where the split has other samples or hard labels.
        """
        where = self.folder / f"{name}.zarr"
        kind, columns = self._kind_of_labels()
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

    def _kind_of_labels(self) -> tuple[torch.dtype, list[int]]:
        """Returns the type of hard labels, and their shape behind the samples."""
        match self.manifest.signal:
            case "binary":
                return torch.int8, [len(self.manifest.class_names)]
            case "grid":
                return torch.int16, self.manifest.image_shape[1:]
            case "categorical":
                return torch.int64, []


def _described(kind: torch.dtype, shape: Sequence[int]) -> str:
    return f"{str(kind).removeprefix('torch.')} {list(shape)}"


def split_fingerprint(split: Split) -> str:
    """Returns 32 hex digits of the samples and their hard labels, in their order."""
    return rows_fingerprint(split.sample_ids, split.hard_labels.numpy())
