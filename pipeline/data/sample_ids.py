"""Sample ids: a sample's content as a number, and the places of samples in a list of ids."""

from functools import cached_property

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from pipeline.core.errors import repaired
from pipeline.core.seeding import derive_seed, philox
from pipeline.data.content import IMAGES

FIX = repaired("prepare")
_DRAWN_AT_ONCE = 65_536  # samples: drawing takes some 100 bytes for each


class SampleIndex:
    """A list of sample ids that finds the places of others in it.

    It is sorted once, with the first search.
    """

    def __init__(self, sample_ids: UInt64[np.ndarray, " samples"]) -> None:
        self._ids = sample_ids

    @cached_property
    def _by_id(self) -> Int64[np.ndarray, " samples"]:
        order: Int64[np.ndarray, " samples"] = np.argsort(self._ids, kind="stable")
        return order

    @cached_property
    def _sorted(self) -> UInt64[np.ndarray, " samples"]:
        ordered: UInt64[np.ndarray, " samples"] = self._ids[self._by_id]
        return ordered

    def find(self, sample_ids: UInt64[np.ndarray, " some"]) -> Int64[np.ndarray, " some"]:
        """Returns the place of each id (the first of several), -1 where there is none."""
        if len(self._sorted) == 0:
            return np.full(len(sample_ids), -1, dtype=np.int64)
        place = np.searchsorted(self._sorted, sample_ids).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[place] == sample_ids, self._by_id[place], -1)


def find_samples(
    sample_ids: UInt64[np.ndarray, " samples"], among: UInt64[np.ndarray, " others"]
) -> Int64[np.ndarray, " samples"]:
    """Returns the place of each id in `among` (the first of several), -1 where there is none."""
    return SampleIndex(among).find(sample_ids)


def sample_ids(images: UInt8[np.ndarray, "samples channels height width"]) -> UInt64[np.ndarray, " samples"]:
    """Returns the ids of images, as `Content.ids` makes them."""
    return IMAGES.ids(images)


def sample_id(image: UInt8[np.ndarray, "channels height width"]) -> int:
    """Returns the id of one image, which takes half the time that `sample_ids` of it does."""
    return IMAGES.id_of_image(image)


def row_draws(ids: UInt64[np.ndarray, " samples"]) -> Int64[np.ndarray, " samples"]:
    """Returns random words in [0, 2^32) by which rows are ordered, from the ids alone."""
    return id_draws(derive_seed(0, "rows"), ids)


def id_draws(seed: int, ids: UInt64[np.ndarray, " samples"]) -> Int64[np.ndarray, " samples"]:
    """Returns a random word in [0, 2^32) for each id, other words for each seed."""
    draws = np.empty(len(ids), np.int64)
    for start in range(0, len(ids), _DRAWN_AT_ONCE):
        words = ids[start : start + _DRAWN_AT_ONCE].view(np.int64)
        zero = np.zeros_like(words)
        draws[start : start + len(words)] = philox(seed, (words, words >> 32, zero, zero))[0]
    return draws
