"""Mean average precision on test samples that are drawn again: how much it owes to their choice.

It is no mean over samples, so it has no standard error by a formula. A bootstrap draws as many test
samples again, with replacement. All networks get the same draws, so the difference of two of them
is paired.
"""

from collections.abc import Iterator
from math import sqrt

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64

from pipeline.core.seeding import integers_below, philox
from pipeline.signals import HardLabels, Outputs

NUM_DRAWS = 300  # the error of a standard error from so many is 4%
_SEED = 0
_VALUES_AT_ONCE = 1 << 23  # 34 MB in float32, of which a class needs two

Times = Float32[np.ndarray, "samples draws"]


def resampled(outputs: Outputs, hard_labels: HardLabels, num_draws: int = NUM_DRAWS) -> Float64[torch.Tensor, " draws"]:
    """Returns the mean average precision on each of so many draws of the samples.

    A class of which a draw has no sample is left out of it, as it would be of a test split.
    """
    odds, entries = outputs.numpy(), hard_labels.numpy()
    found = [_mean(odds, entries, times) for times in _times_drawn(len(odds), num_draws)]
    return torch.from_numpy(np.concatenate(found))


def evidence_of(value: float, draws: Float64[torch.Tensor, " draws"]) -> Float64[torch.Tensor, " draws"]:
    """Returns values whose mean is `value`, and whose standard error, as of a mean, is the standard
    deviation of the draws.
    """
    return value + sqrt(len(draws)) * (draws - draws.mean())


def _times_drawn(count: int, num_draws: int) -> Iterator[Times]:
    """Yields how often each sample is in each draw, for some draws at a time."""
    at_once = max(1, _VALUES_AT_ONCE // max(1, count))
    for start in range(0, num_draws, at_once):
        numbers = range(start, min(start + at_once, num_draws))
        yield np.stack([_times(count, number) for number in numbers], axis=1)


def _times(count: int, number: int) -> Float32[np.ndarray, " samples"]:
    """Returns how often each sample is in a draw."""
    blocks = np.arange(-(-count // 4), dtype=np.int64)  # of four random words
    words = philox(_SEED, (blocks, blocks >> 32, np.full_like(blocks, number), np.zeros_like(blocks)))
    drawn = integers_below(np.concatenate(words)[:count], count)
    return np.bincount(drawn, minlength=count).astype(np.float32)


def _mean(
    odds: Float[np.ndarray, "samples classes"], entries: np.ndarray, times: Times
) -> Float64[np.ndarray, " draws"]:
    """Returns the mean over the classes of which a draw has a sample; 0 where it has of none."""
    total, count = np.zeros((2, times.shape[1]))
    for own, of in zip(odds.T, entries.T, strict=True):
        if (of == 1).any():
            found = _precision(own[of >= 0], of[of >= 0] == 1, times if (of >= 0).all() else times[of >= 0])
            total += np.nan_to_num(found)
            count += ~np.isnan(found)
    return total / np.maximum(count, 1)


def _precision(
    odds: Float[np.ndarray, " known"], positive: Bool[np.ndarray, " known"], times: Float32[np.ndarray, "known draws"]
) -> Float64[np.ndarray, " draws"]:
    """Returns a class's average precision on each draw; no number where a draw has no sample of it.

    `signals/binary_metrics.py` has the formula; here a sample counts as often as it was drawn.
    """
    # 1. Samples by rank: those of equal log-odds share one. Only ranks with a sample of the class
    # count; `stops` are their ends, `firsts` the first such sample of each.
    order = np.argsort(-odds, kind="stable")
    odds, places = odds[order], np.flatnonzero(positive[order])
    stops, firsts = np.unique(np.searchsorted(-odds, -odds[places], side="right"), return_index=True)
    # 2. The samples, and those of the class, down to each rank.
    seen = np.add.reduceat(times[order[: stops[-1]]], [0, *stops[:-1]], axis=0).cumsum(axis=0)
    drawn = np.add.reduceat(times[order[places]], firsts, axis=0)
    hits = drawn.cumsum(axis=0)
    # 3. The mean of precision over the samples of the class.
    with np.errstate(invalid="ignore"):  # 0 / 0
        found: np.ndarray = (drawn * hits / np.maximum(seen, 1)).sum(axis=0, dtype=np.float64) / hits[-1]
    return found
