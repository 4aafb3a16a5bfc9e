"""The images of a caller's own map-style data set."""

from collections.abc import Mapping, Sequence
from operator import index
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from pipeline.core.errors import DataError
from pipeline.core.progress import progress
from pipeline.data.budget import MemoryBudget
from pipeline.data.hard_labels import UNLABELLED
from pipeline.data.images import StoredImages
from pipeline.data.sample_ids import sample_ids
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.data.splits import Split, SplitInMemory
from pipeline.library.pixels import as_pixels

_IMAGES, _LABELS = ("image", "img"), ("label", "labels")  # the names of them in an item that is a map
_TRIED = 4  # first items that are read twice, to see that they stay the same


@runtime_checkable
class MapStyle(Protocol):
    """A map-style data set: items by number, and how many there are."""

    def __len__(self) -> int:
        """Returns the number of items."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """Returns an item: an image, (image, class), or a map with `image` and `label`."""
        ...


class OwnImages(StoredImages):
    """The images of a caller's data set, as a split reads them: all of one size, as uint8.

    Raises:
        DataError: There are none, or they change from one reading to the next.
    """

    chunk_rows = 1

    def __init__(self, dataset: Any) -> None:
        self._dataset, self._lock = dataset, Lock()  # a thread reads ahead
        if not isinstance(dataset, MapStyle):
            found, fix = f"a {type(dataset).__name__}", "one that is only iterable can be read into a list"
            raise DataError("your data set", found, expected="items by number, and a length", fix=fix)
        if not len(dataset):
            raise DataError("your data set", "is empty", expected="images")
        self.shape = tuple(self._pixels(0)[0].shape)
        for row in range(min(_TRIED, len(dataset))):
            if not np.array_equal(self.item(row)[0], self.item(row)[0]):
                fix = "leave random augmentation out of it: views are made of its images here"
                raise DataError(f"item {row}", "is another image when it is read again", fix=fix)

    def __reduce__(self) -> tuple[type["OwnImages"], tuple[MapStyle]]:
        return type(self), (self._dataset,)

    def __len__(self) -> int:
        return len(self._dataset)

    def item(self, row: int) -> tuple[UInt8[np.ndarray, "channels height width"], int]:
        """Returns an image and its hard label, -1 where it has none.

        Raises:
            DataError: It is no image, is of another size, or its label is no class number.
        """
        pixels, label = self._pixels(row)
        if pixels.shape != self.shape:
            fix = "have your data set fit all images to one size, always in the same way"
            raise DataError(f"item {row}", f"shape {list(pixels.shape)}", expected=f"{list(self.shape)}", fix=fix)
        return pixels, UNLABELLED if label is None else _class_number(label, f"item {row}")

    def _pixels(self, row: int) -> tuple[UInt8[np.ndarray, "channels height width"], Any]:
        with self._lock:
            image, label = _parts(self._dataset[row])
        return as_pixels(image, f"item {row}"), label

    def read(
        self, rows: range, kept: Int64[np.ndarray, " images"] | None = None
    ) -> UInt8[np.ndarray, "images channels height width"]:
        chosen = rows if kept is None else [rows[place] for place in kept]
        return np.stack([self.item(row)[0] for row in chosen])

    def whole(self) -> UInt8[np.ndarray, "samples channels height width"]:
        return self.read(range(len(self)))

    def some(self, rows: Sequence[int]) -> SplitInMemory:
        """Returns some images with their ids, in any order."""
        items = [self.item(row) for row in rows]
        pixels = np.stack([image for image, _ in items])
        return SplitInMemory(torch.from_numpy(pixels), torch.tensor([label for _, label in items]), sample_ids(pixels))


def read_all(images: OwnImages, budget: MemoryBudget) -> Split:
    """Returns all images of a data set as a split, each read once for its id.

    They stay in memory where they take at most three quarters of the budget; else they are read
    again as they are asked for.
    """
    count = len(images)
    ids, labels = np.empty(count, np.uint64), np.empty(count, np.int64)
    fits = count * int(np.prod(images.shape)) <= budget.num_bytes * 3 // 4
    kept = np.empty((count if fits else 0, *images.shape), np.uint8)
    with progress("images", count, "image") as on_images:
        for row in range(count):
            pixels, labels[row] = images.item(row)
            ids[row] = sample_ids(pixels[None])[0]
            if fits:
                kept[row] = pixels
            on_images(1)
    if fits:
        return SplitInMemory(torch.from_numpy(kept), torch.from_numpy(labels), ids)
    return SplitOnDisk(Path("your data set"), images, torch.from_numpy(labels), ids, np.zeros(count, dtype=bool))


def need_known_classes(hard_labels: Int64[torch.Tensor, " samples"], num_classes: int) -> None:
    """Raises DataError where a hard label is neither a class nor -1."""
    odd = hard_labels[(hard_labels < UNLABELLED) | (hard_labels >= num_classes)]
    if len(odd):
        found = f"label {int(odd[0])}, the first of {len(odd):,}"
        raise DataError("your data set", found, expected=f"0 to {num_classes - 1}, or -1 where it is not known")


def _class_number(label: Any, where: str) -> int:
    """Returns a label as a number; raises DataError where it is none, or several."""
    shape = tuple(getattr(label, "shape", ()))
    try:
        if not shape:  # a tensor of one number may be a set of one class
            return index(label)
    except TypeError:
        pass
    found = f"a label of shape {list(shape)}" if shape else f"label {label!r:.60}"
    fix = "give int(label), or the place of its name among your classes; sets of classes have to be prepared (docs/signals.md)"
    raise DataError(where, found, expected="a class number, or none", fix=fix)


def _parts(item: Any) -> tuple[Any, Any]:
    """Returns the image and the label of an item; None where it has no label."""
    if isinstance(item, Mapping):
        images, labels = ([item[name] for name in names if name in item] for names in (_IMAGES, _LABELS))
        return (images or [None])[0], (labels or [None])[0]
    if isinstance(item, tuple | list):
        return item[0], item[1] if len(item) > 1 else None
    return item, None
