"""Scenes of several items: what is seen, its mask and its classes agree, and never change."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.preparation.maps import read_mask
from pipeline.preparation.numbering import Numbering
from pipeline.preparation.sources import build_source
from pipeline.preparation.sources.base import Source
from pipeline.preparation.sources.fashion_mnist import CLASS_NAMES, FashionMnist
from pipeline.preparation.sources.fashion_scenes import NOTHING, FashionScenes, resized, visible
from pipeline.preparation.sources.labels import Classes
from pipeline.preparation.sources.mask import Mask
from pipeline.preparation.sources.pixels import PixelSplit

RAW = Path("raw")


def items(split: str, seed: int) -> PixelSplit:
    """Returns ten squares of 20 pixels on black, one of each class; in `test` they are brighter."""
    rng = np.random.default_rng(seed)
    images = np.zeros((10, 1, 28, 28), np.uint8)
    low = 200 if split == "test" else 100
    images[:, :, 4:24, 4:24] = rng.integers(low, low + 50, (10, 1, 20, 20))
    return PixelSplit(split, images, np.arange(10, dtype=np.uint8), split)


@pytest.fixture(autouse=True)
def few_items(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = [items("train", 0), items("test", 1)]
    monkeypatch.setattr(FashionMnist, "load", lambda self, raw: (Classes(CLASS_NAMES), splits))


def scenes(**settings: object) -> FashionScenes:
    one: Source = build_source({"kind": "fashion_scenes", **settings}, "here")
    assert isinstance(one, FashionScenes)
    return one


def test_the_mask_has_the_class_of_each_pixel_and_the_label_those_that_are_seen() -> None:
    one = scenes(train_scenes=60, test_scenes=20)
    assert (one.class_names(RAW), one.count(RAW), one.signal) == (CLASS_NAMES, 80, "binary")
    sizes, hidden = set(), 0
    for image in one.images(RAW):
        split, _, number = image.key.partition(":")
        scene = one.scene(RAW, split, int(number))
        np.testing.assert_array_equal(image.content, scene.pixels)
        seen = np.unique(scene.mask[scene.mask != NOTHING]) - 1
        entries = Numbering(CLASS_NAMES, "binary").array([image.label])[0]
        assert set(np.flatnonzero(entries)) <= set(seen.tolist())
        counts = [(scene.mask == NOTHING + 1 + label).sum() for label in range(10)]
        assert [count >= 20 for count in counts] == (entries == 1).tolist()
        hidden += int((np.array(counts) > 0).sum() - (entries == 1).sum())
        canvas = scene.pixels[0][scene.mask == NOTHING]
        assert canvas.min() == canvas.max() <= 64  # one even grey
        assert scene.pixels[0][scene.mask != NOTHING].min() >= 16
        assert (scene.pixels.max() >= 200) == (split == "test")
        sizes.add(len(seen))
    assert sizes == {1, 2, 3, 4}
    assert visible(np.zeros((64, 64), np.uint8)) == frozenset()


def test_scenes_are_the_same_in_every_version_and_others_with_another_seed() -> None:
    one = scenes(train_scenes=5, test_scenes=5)
    assert int(one.scene(RAW, "train", 3).pixels.astype(np.int64).sum()) == 142947
    assert int(one.scene(RAW, "test", 3).mask.astype(np.int64).sum()) == 2405
    many = scenes(train_scenes=50, test_scenes=5)
    for split in ("train", "test"):
        np.testing.assert_array_equal(one.scene(RAW, split, 4).pixels, many.scene(RAW, split, 4).pixels)
    assert not np.array_equal(one.scene(RAW, "train", 0).pixels, scenes(seed=1).scene(RAW, "train", 0).pixels)


@pytest.mark.parametrize("start", [0, 3, 5, 7, 9])
def test_images_go_on_from_any_place(start: int) -> None:
    one = scenes(train_scenes=5, test_scenes=4)
    everything = [image.key for image in one.images(RAW)]
    assert [image.key for image in one.images(RAW, start)] == everything[start:]


@pytest.mark.parametrize("side", [20, 27, 28, 29, 32])
def test_a_resized_item_is_that_of_a_float_twin(side: int) -> None:
    image = np.random.default_rng(side).integers(0, 256, (28, 28), np.uint8)
    at = ((np.arange(side) + 0.5) * 28 / side - 0.5).clip(0, 27)
    rows = np.array([np.interp(at, np.arange(28), line) for line in image.astype(float)])
    both = np.array([np.interp(at, np.arange(28), line) for line in rows.T]).T
    assert np.abs(resized(image, side) - both).max() <= 0.5 + 1e-9
    if side == 28:
        np.testing.assert_array_equal(resized(image, side), image)


def test_scenes_with_masks_have_the_class_of_each_pixel() -> None:
    one, twin = scenes(train_scenes=6, test_scenes=3, labels="masks"), scenes(train_scenes=6, test_scenes=3)
    assert (one.class_names(RAW), one.signal) == (("background", *CLASS_NAMES), "grid")
    for image, other in zip(one.images(RAW), twin.images(RAW), strict=True):
        np.testing.assert_array_equal(image.content, other.content)
        split, _, number = image.key.partition(":")
        assert isinstance(image.label, Mask)
        np.testing.assert_array_equal(read_mask(image.label), one.scene(RAW, split, int(number)).mask)
