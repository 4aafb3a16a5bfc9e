"""The order of rows, and the draw of those that are held out: both depend on the samples alone."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt64

from pipeline.core.errors import DataError
from pipeline.core.seeding import derive_seed
from pipeline.data.hard_labels import UNLABELLED, is_labelled
from pipeline.data.sample_ids import id_draws, row_draws
from pipeline.preparation.hold_out_sets import held_out_of_sets

_PURPOSES = {"val": "validation", "test": "test"}  # of the random numbers


class Names(NamedTuple):
    """The names of classes by their numbers, and that of samples, for messages."""

    classes: Sequence[str]
    things: str


def row_order(
    ids: UInt64[np.ndarray, " samples"],
    hard_labels: Shaped[np.ndarray, "samples ..."],
    checksums: UInt64[np.ndarray, " samples"],
) -> Int64[np.ndarray, " samples"]:
    """Returns the order of rows: by `row_draws`, then by id, hard label and checksum.

    Training reads consecutive rows together, and class folders come sorted by class. In this order
    any consecutive rows are a random sample. It is the same wherever the images come from, and in
    whatever order they come."""
    return np.lexsort((checksums, _ranks(ids, hard_labels), ids, row_draws(ids)))


def _ranks(
    ids: UInt64[np.ndarray, " samples"], hard_labels: Shaped[np.ndarray, "samples ..."]
) -> Int64[np.ndarray, " samples"]:
    """Returns numbers that order equal samples by their hard labels; others need none."""
    if hard_labels.ndim == 1:
        return hard_labels
    values, counts = np.unique(ids, return_counts=True)
    equal = np.isin(ids, values[counts > 1])
    ranks = np.zeros(len(ids), np.int64)
    ranks[equal] = np.unique(hard_labels[equal], axis=0, return_inverse=True)[1].reshape(-1)
    return ranks


def can_hold_out(count: int, fractions: Iterable[float]) -> bool:
    """Returns whether each fraction, taken of what the ones before it left, takes an image and
    leaves one.
    """
    for fraction in fractions:
        quota = round(fraction * count)
        if not 0 < quota < count:
            return False
        count -= quota
    return True


def hold_out(
    split: str,
    hard_labels: Shaped[np.ndarray, "samples ..."],
    ids: UInt64[np.ndarray, " samples"],
    fraction: float,
    seed: int,
    names: Names,
) -> Bool[np.ndarray, " samples"]:
    """Returns whether each sample is held out for `split`: the same fraction of every class or,
    where classes are independent, of the samples whose rarest class it is.

    Whether a sample is held out depends on its content, its class's size and the seed, not on its
    position. Equal samples stay on one side. Unlabelled samples are never held out, nor are samples
    that are equal to one of them.

    Raises:
        DataError: A class has too few samples to be on both sides.
    """
    # 1. A number for every sample, from its id; equal samples draw the same one.
    draw = id_draws(derive_seed(seed, _PURPOSES[split]), ids)
    # 2. Of each class, those with the smallest numbers, as many as its fraction asks for.
    may_be = ~np.isin(ids, ids[~is_labelled(hard_labels)])
    if hard_labels.ndim == 2:
        held_out = held_out_of_sets(hard_labels, draw, may_be, fraction)
        if not held_out.any():
            found = f"none of {len(ids):,} can be held out by prepare.{split}_fraction, {fraction}"
            raise DataError(
                f"the training {names.things}", found, fix=f"add {names.things}, or give the source a {split} split"
            )
    else:
        held_out = _held_out_of_classes(split, hard_labels, draw, may_be, fraction, names)
    # 3. What is equal to a held-out sample goes with it, or the student would train on what it is
    # tested on.
    held_out = np.isin(ids, ids[held_out])
    for label in _lost(hard_labels, held_out).tolist():
        found = f"all its {names.things} are equal, so none is left to train on"
        raise DataError(f"class {names.classes[label]}", found, fix=f"add {names.things}")
    return held_out


def _held_out_of_classes(
    split: str,
    hard_labels: Int64[np.ndarray, " samples"],
    draw: Int64[np.ndarray, " samples"],
    may_be: Bool[np.ndarray, " samples"],
    fraction: float,
    names: Names,
) -> Bool[np.ndarray, " samples"]:
    held_out = np.zeros(len(draw), dtype=bool)
    for label, count in sorted(Counter(hard_labels[hard_labels != UNLABELLED].tolist()).items()):
        rows = np.flatnonzero((hard_labels == label) & may_be)
        quota = round(fraction * count)
        if not can_hold_out(count, [fraction]) or len(rows) == 0:
            found = f"{count} training {names.things}, of which prepare.{split}_fraction, {fraction}, takes {quota}"
            if len(rows) == 0:
                found = f"each of its {names.things} is also there unlabelled, so none can be held out"
            fix = f"add {names.things}, change prepare.{split}_fraction in params.yaml, or give the source a {split} split"
            raise DataError(f"class {names.classes[label]}", found, expected="at least one on either side", fix=fix)
        held_out[rows[np.argsort(draw[rows], kind="stable")[:quota]]] = True
    return held_out


def _lost(
    hard_labels: Shaped[np.ndarray, "samples ..."], held_out: Bool[np.ndarray, " samples"]
) -> Int64[np.ndarray, " classes"]:
    """Returns the classes of which no sample is left."""
    if hard_labels.ndim == 1:
        return np.setdiff1d(hard_labels, hard_labels[~held_out])
    is_of = hard_labels == 1
    return np.flatnonzero(is_of.any(axis=0) & ~is_of[~held_out].any(axis=0))
