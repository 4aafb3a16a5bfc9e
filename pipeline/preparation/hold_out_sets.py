"""The draw of samples that are held out where classes are independent: from strata of them."""

import numpy as np
from jaxtyping import Bool, Int8, Int64

_OF_NONE = -1  # the stratum of samples that are of no class, as far as is known


def rarest_classes(entries: Int8[np.ndarray, "samples classes"]) -> Int64[np.ndarray, " samples"]:
    """Returns for each sample the rarest of its classes; -1 for a sample that is of none."""
    rarest = np.full(len(entries), _OF_NONE, np.int64)
    counts = np.array([np.count_nonzero(column == 1) for column in entries.T], np.int64)
    for number in np.argsort(-counts, kind="stable").tolist():  # rarer ones replace more frequent ones
        rarest[entries[:, number] == 1] = number
    return rarest


def held_out_of_sets(
    entries: Int8[np.ndarray, "samples classes"],
    draws: Int64[np.ndarray, " samples"],
    may_be: Bool[np.ndarray, " samples"],
    fraction: float,
) -> Bool[np.ndarray, " samples"]:
    """Returns the samples that are held out: a fraction of all, in each stratum to within one.

    A stratum is the samples whose rarest class is the same, so rare classes are on both sides as
    far as they can be; of each one a sample is left.

    References:
        Konstantinos Sechidis, Grigorios Tsoumakas, Ioannis Vlahavas, "On the Stratification of
        Multi-Label Data", 2011, doi:10.1007/978-3-642-23808-6_10: it begins with the rarest class,
        too.
    """
    strata, held_out = rarest_classes(entries), np.zeros(len(entries), dtype=bool)
    seen = taken = 0
    for stratum in np.unique(strata[may_be]).tolist():
        rows = np.flatnonzero((strata == stratum) & may_be)
        seen += len(rows)
        most = len(rows) - (stratum != _OF_NONE)
        quota = min(max(round(fraction * seen) - taken, 0), most)
        held_out[rows[np.argsort(draws[rows], kind="stable")[:quota]]] = True
        taken += quota
    return held_out
