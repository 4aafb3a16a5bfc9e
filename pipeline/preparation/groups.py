"""Groups of samples that stay in one split: the recordings of a speaker, the images of a patient,
the windows of one file.

A network that is tested on a voice that it was trained on seems better than it is.
"""

import hashlib
import re
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from pipeline.core.errors import DataError
from pipeline.core.seeding import derive_seed
from pipeline.data.sample_ids import id_draws
from pipeline.preparation.sources.base import Source

_PURPOSES = {"val": "validation group", "test": "test group"}  # of the random numbers
_FIX = "correct prepare.group_pattern in params.yaml"


def group_names(keys: Iterable[str], pattern: str | None, source: Source) -> list[str] | None:
    """Returns the group of each sample by its key; None where each is a group of its own.

    Raises DataError where the pattern finds none in a key.
    """
    if pattern is None:
        names = [source.group_of(key) for key in keys]
        return None if None in names else [str(name) for name in names]
    found, search = [], re.compile(pattern).search
    for key in keys:
        match = search(key)
        name = match and (match[1] if match.re.groups else match[0])
        if not name:
            raise DataError(key, f"no group in its name by {pattern!r}", expected="one for every sample", fix=_FIX)
        found.append(name)
    return found


def joined(names: list[str], ids: UInt64[np.ndarray, " samples"]) -> Int64[np.ndarray, " samples"]:
    """Returns a number for the group of each sample; groups that have a sample in common are one.

    It is the place of the group's first name among all names in order.
    """
    groups: Int64[np.ndarray, " samples"] = np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
    same = np.unique(ids, return_inverse=True)[1]
    while True:
        before = groups.copy()
        for number in (same, groups.copy()):  # among equal samples, then within the group
            least = np.full(int(number.max()) + 1, len(groups), np.int64)
            np.minimum.at(least, number, groups)
            groups = least[number]
        if np.array_equal(before, groups):
            return groups


def hold_out_groups(
    split: str,
    names: list[str],
    ids: UInt64[np.ndarray, " samples"],
    may_be: Bool[np.ndarray, " samples"],
    fraction: float,
    seed: int,
) -> Bool[np.ndarray, " samples"]:
    """Returns whether each sample is held out for `split`: whole groups, drawn by their names,
    which together have as nearly as can be the fraction of all samples; one at least, and not all.

    Args:
        may_be: A group with a sample of which this is False is not held out.

    Raises:
        DataError: There are too few groups.
    """
    groups = joined(names, ids)
    numbers, counts = np.unique(groups, return_counts=True)
    free = ~np.isin(numbers, groups[~may_be])
    if len(numbers) < 2 or not free.any():
        found = f"{len(numbers)} groups, {int(free.sum())} of which can be held out for {split}"
        raise DataError("prepare.group_pattern", found, expected="groups for each split, and one to train on", fix=_FIX)
    # 1. Groups in the order of numbers that their names draw.
    ordered = sorted(set(names))
    digests = [hashlib.blake2b(ordered[number].encode(), digest_size=8).digest() for number in numbers[free]]
    draws = id_draws(derive_seed(seed, _PURPOSES[split]), np.frombuffer(b"".join(digests), "<u8").astype(np.uint64))
    drawn = np.flatnonzero(free)[np.argsort(draws, kind="stable")]
    # 2. As many as come nearest to the fraction.
    totals = np.cumsum(counts[drawn])[: len(numbers) - 1]
    taken = 1 + int(np.argmin(np.abs(totals - fraction * len(ids))))
    return np.isin(groups, numbers[drawn[:taken]])
