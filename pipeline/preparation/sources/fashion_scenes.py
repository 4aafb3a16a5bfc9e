"""Scenes of Fashion-MNIST's items: up to four of them on a grey canvas, one over the other.

Real pixels with several classes each, for demonstrations: which items are to be seen is known
exactly, and so is the class of each pixel. Everything follows from the seed and a scene's number in
whole numbers, so that scenes are the same everywhere.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.bounds import Seed
from pipeline.core.config import STRICT
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.fashion_mnist import CLASS_NAMES, FashionMnist
from pipeline.preparation.sources.label_sets import Label, LabelSet
from pipeline.preparation.sources.mask import Mask, Masks
from pipeline.preparation.sources.pixels import PixelSplit

NumScenes = Annotated[int, Field(ge=1, le=10**7)]

CANVAS_PX = 64
PIXEL_CLASSES = ("background", *CLASS_NAMES)
NOTHING = 0  # in a mask: the canvas itself; c + 1 stands for class c
_MOST_ITEMS = 4
_LEAST_PX, _MOST_PX = 20, 32  # of an item's sides
_MOST_GREY = 64  # of the canvas
_LEAST_LEVEL = 16  # of an item's pixels: what is darker is the black around it
_DRAWN_AT_ONCE = 1024  # scenes: drawing takes half of the time for one at a time
_LEAST_VISIBLE = 20  # pixels of a class that is to be seen


class Scene(NamedTuple):
    """A scene, and for each of its pixels the class that is seen there."""

    pixels: UInt8[np.ndarray, "1 height width"]
    mask: UInt8[np.ndarray, "height width"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FashionScenes(Source):
    """The scenes: of training items for training, of test items for testing.

    Attributes:
        labels: `items` has the classes of which at least 20 pixels are to be seen; `masks` has the
            class of each pixel, of which the first is the canvas.
    """

    train_scenes: NumScenes = 20_000
    test_scenes: NumScenes = 4_000
    labels: Literal["items", "masks"] = "items"
    seed: Seed = 0

    kind: ClassVar[str] = "fashion_scenes"

    @property
    def signal(self) -> SignalKind:
        return "binary" if self.labels == "items" else "grid"

    def class_names(self, raw: Path) -> tuple[str, ...]:
        self._items(raw)  # fetched here, which may take a while: not while images are counted
        return CLASS_NAMES if self.labels == "items" else PIXEL_CLASSES

    def count(self, raw: Path) -> int:
        return self.train_scenes + self.test_scenes

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        for split, count in (("train", self.train_scenes), ("test", self.test_scenes)):
            for number in range(min(start, count), count):
                scene, key = self.scene(raw, split, number), f"{split}:{number}"
                yield RawImage(split, self._label(scene, key), key, scene.pixels)
            start = max(start - count, 0)

    def _label(self, scene: Scene, key: str) -> Label:
        if self.labels == "items":
            return LabelSet(visible(scene.mask))
        return Mask(scene.mask[None], key, Masks(PIXEL_CLASSES))

    def scene(self, raw: Path, split: str, number: int) -> Scene:
        """Returns a scene of a split.

        Args:
            raw: The folder for downloads, where Fashion-MNIST is looked for first.
        """
        items = self._items(raw)[split]
        canvas, *each = self._words(split, number)
        mask = np.full((CANVAS_PX, CANVAS_PX), NOTHING, np.uint8)
        pixels = np.full_like(mask, _below(canvas[1], _MOST_GREY + 1))
        for which, size, row, column in each[: 1 + _below(canvas[0], _MOST_ITEMS)]:
            side = _LEAST_PX + _below(size, _MOST_PX - _LEAST_PX + 1)
            top, left = (_below(word, CANVAS_PX - side + 1) for word in (row, column))
            item = _below(which, len(items.labels))
            _paint(Scene(pixels[None], mask), items, item, slice(top, top + side), slice(left, left + side))
        return Scene(pixels[None], mask)

    def _words(self, split: str, number: int) -> Int64[np.ndarray, "draws 4"]:
        """Returns the random words of a scene: four for the canvas, and four for each item."""
        block, place = divmod(number, _DRAWN_AT_ONCE)
        if (split, block) not in self._drawn:
            self._drawn.clear()
            self._drawn[split, block] = _draws(self.seed, split, block)
        words: Int64[np.ndarray, "draws 4"] = self._drawn[split, block][place]
        return words

    @cached_property
    def _drawn(self) -> dict[tuple[str, int], Int64[np.ndarray, "scenes draws 4"]]:
        return {}

    def _items(self, raw: Path) -> dict[str, PixelSplit]:
        if raw not in self._kept:
            self._kept[raw] = {one.split: one for one in FashionMnist().load(raw)[1]}
        return self._kept[raw]

    @cached_property
    def _kept(self) -> dict[Path, dict[str, PixelSplit]]:
        return {}


def visible(mask: UInt8[np.ndarray, "height width"]) -> frozenset[str]:
    """Returns the classes of which enough pixels are to be seen."""
    counts = np.bincount(mask.ravel(), minlength=len(CLASS_NAMES) + 1)[NOTHING + 1 :]
    return frozenset(CLASS_NAMES[number] for number in np.flatnonzero(counts >= _LEAST_VISIBLE).tolist())


def resized(image: UInt8[np.ndarray, "old old"], side: int) -> UInt8[np.ndarray, "new new"]:
    """Returns a square image at another size, each pixel a weighted mean of up to four.

    Bilinear, from centre to centre, in whole numbers alone.
    """
    unit = 2 * side  # a pixel of the old image in whole numbers
    position = (2 * np.arange(side) + 1) * len(image) - side
    first, weight = position // unit, position % unit
    one, other = (index.clip(0, len(image) - 1) for index in (first, first + 1))
    rows = image[one].astype(np.int64) * (unit - weight)[:, None] + image[other].astype(np.int64) * weight[:, None]
    both = rows[:, one] * (unit - weight) + rows[:, other] * weight
    levels: UInt8[np.ndarray, "new new"] = ((both + unit * unit // 2) // (unit * unit)).astype(np.uint8)
    return levels


def _draws(seed: int, split: str, block: int) -> Int64[np.ndarray, "scenes draws 4"]:
    """Returns the random words of some consecutive scenes."""
    from pipeline.core.seeding import derive_seed, philox  # with torch, which listing files does without

    scenes = np.arange(block * _DRAWN_AT_ONCE, (block + 1) * _DRAWN_AT_ONCE, dtype=np.int64)
    numbers, slots = np.meshgrid(scenes, np.arange(1 + _MOST_ITEMS, dtype=np.int64), indexing="ij")
    zeros = np.zeros_like(slots)
    return np.stack(philox(derive_seed(seed, f"scenes {split}"), (numbers, slots, zeros, zeros)), axis=2)


def _below(word: np.int64, bound: int) -> int:
    """Returns a whole number in [0, bound) from a random word, as `integers_below` does."""
    return int(word) * bound >> 32


def _paint(scene: Scene, items: PixelSplit, item: int, rows: slice, columns: slice) -> None:
    """Paints an item over what is there."""
    drawn = resized(items.images[item, 0], rows.stop - rows.start)
    is_item = drawn >= _LEAST_LEVEL
    scene.pixels[0, rows, columns][is_item] = drawn[is_item]
    scene.mask[rows, columns][is_item] = NOTHING + 1 + int(items.labels[item])
