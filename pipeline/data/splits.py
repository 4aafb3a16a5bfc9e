"""One split of a data set: images, hard labels and sample ids, in memory or on disk.

A sample id is derived from the pixels that training sees alone, so labels follow their image wherever it goes. The hard
label of an unlabelled image is -1; there are such in the training split only.
"""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8, UInt64

from pipeline.core.arrays import ArrayGroup
from pipeline.data.images import HeldImages, Storage, StoredImages, open_images
from pipeline.data.sample_ids import SampleIndex, check_images

UNLABELLED = -1  # in place of a hard label


@dataclass(frozen=True)
class Split:
    """One split in memory: this machine's, or that of a device."""

    images: UInt8[torch.Tensor, "samples channels height width"]
    hard_labels: Int64[torch.Tensor, " samples"]
    sample_ids: UInt64[np.ndarray, " samples"]

    def __len__(self) -> int:
        return len(self.hard_labels)

    @cached_property
    def index(self) -> SampleIndex:
        """Where each sample is."""
        return SampleIndex(self.sample_ids)

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
    """One split on disk: its images are read as they are asked for, and nothing but hard labels and ids is held, unless rows
    are asked to be (17 bytes a sample; 8 more where images are encoded, or where some are left out, and 16 once `index`
    is searched).

    Pixels are compared with their ids when they are first read, which is 2 microseconds and 1.7 nanoseconds a pixel
    once; after that the checksum of each chunk must do. It must always do for encoded images, because another version of
    a decoder may round otherwise; the canaries of a store tell one that does worse.

    Args:
        images: Those on disk.
        is_checked: Whose pixels need not be compared.
        stored_rows: Which of the images on disk are the split's, ascending; None: all.
    """

    def __init__(
        self,
        where: Path,
        images: StoredImages,
        hard_labels: Int64[torch.Tensor, " samples"],
        sample_ids: UInt64[np.ndarray, " samples"],
        is_checked: Bool[np.ndarray, " samples"],
        stored_rows: Int64[np.ndarray, " samples"] | None = None,
    ) -> None:
        self._where, self._images, self._stored_rows = where, images, stored_rows
        self.hard_labels, self.sample_ids, self._is_checked = hard_labels, sample_ids, is_checked
        #: Where each sample is.
        self.index = SampleIndex(sample_ids)
        #: Channels, height, width.
        self.image_shape = images.shape
        #: Reading less than so many rows of what is on disk, or across their borders, reads all of them.
        self.chunk_rows = images.chunk_rows

    @classmethod
    def open(cls, group: ArrayGroup, storage: Storage, shape: list[int]) -> "StreamedSplit":
        """All of a group; raises StoreError where a file of it is lost."""
        labels, ids = torch.from_numpy(group.read_whole("hard_labels")), group.read_whole("sample_ids")
        images = open_images(group, storage, shape, len(ids))
        return cls(group.path, images, labels, ids, np.full(len(ids), storage == "encoded"))

    def __len__(self) -> int:
        return len(self.hard_labels)

    def labelled(self) -> "StreamedSplit":
        """The labelled samples; this very split where all are."""
        rows = np.flatnonzero(self.hard_labels.numpy() != UNLABELLED)
        if len(rows) == len(self):
            return self
        labels, ids, is_checked = self.hard_labels[rows], self.sample_ids[rows], self._is_checked[rows]
        return StreamedSplit(self._where, self._images, labels, ids, is_checked, rows)

    def read(self, rows: range) -> UInt8[np.ndarray, "rows channels height width"]:
        """The images of consecutive rows; raises StoreError or DataError where they are damaged."""
        if self._stored_rows is None:
            images = self._images.read(rows)
        else:
            images = self._pick(self._stored_rows[rows.start : rows.stop])
        return self._check(slice(rows.start, rows.stop), images)

    def _pick(self, stored: Int64[np.ndarray, " some"]) -> UInt8[np.ndarray, "some channels height width"]:
        """Ascending rows of what is on disk: each chunk is read once, and no two are held at a time."""
        if len(stored) == 0:
            return np.empty((0, *self._images.shape), dtype=np.uint8)
        images = np.empty((len(stored), *self._images.shape), dtype=np.uint8)
        borders = np.flatnonzero(np.diff(stored // self.chunk_rows)) + 1
        for low, high in pairwise([0, *borders.tolist(), len(stored)]):
            first, last = int(stored[low]), int(stored[high - 1])
            images[low:high] = self._images.read(range(first, last + 1), stored[low:high] - first)
        return images

    def take(self, rows: Int64[np.ndarray, " some"]) -> Split:
        """Some samples, in memory, in any order; where they are few, mind that whole chunks are read for them."""
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        stored = ascending if self._stored_rows is None else self._stored_rows[ascending]
        images = self._check(ascending, self._pick(stored))
        if not np.array_equal(order, np.arange(len(rows))):
            images = images[np.argsort(order)]
        return Split(torch.from_numpy(images), self.hard_labels[rows], self.sample_ids[rows])

    def holding(self, rows: range, given_up: Callable[[], bool] = lambda: False) -> "StreamedSplit":
        """The same split with consecutive rows in memory, for whoever takes these again and again; `given_up` as for
        `HeldImages`."""
        assert self._stored_rows is None, "rows are those on disk"
        held = copy(self)
        held._images = HeldImages(self._images, rows, given_up)
        if not given_up():
            held.read(rows)  # compares them with their ids
        return held

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
            check_images(images, self.sample_ids[rows], self._where)
            self._is_checked[rows] = True
        return images
