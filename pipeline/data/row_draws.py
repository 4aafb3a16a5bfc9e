"""Random words of samples, from their ids alone: they order the rows of prepared data."""

import numpy as np
from jaxtyping import Int64, UInt64

from pipeline.core.seeding import derive_seed, philox

_DRAWN_AT_ONCE = 65_536  # samples: drawing takes some 100 bytes for each


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
