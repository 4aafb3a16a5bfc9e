"""The order of a split's rows, and which of them are held out: drawn from what samples are."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from pipeline.core.errors import DataError
from pipeline.core.seeding import derive_seed, philox
from pipeline.data.splits import UNLABELLED

_DRAWN_AT_ONCE = 65_536  # samples: drawing takes some 100 bytes for each


_PURPOSES = {"val": "validation", "test": "test"}  # of the random numbers


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
