"""The jackknife of mean IoU: what each test sample contributes to it.

It is no mean over samples, so it has no standard error by a formula. The jackknife computes it
without each sample in turn, which is cheap from the counts of each sample.
"""

import torch
from jaxtyping import Float64, Int64

Counts = Int64[torch.Tensor, "samples classes"]


def contributions(found: Counts, union: Counts) -> Float64[torch.Tensor, " samples"]:
    """Returns values whose mean is the mean IoU, and whose standard error, as of a mean, is that
    of the mean IoU over the choice of samples.

        n * miou - (n - 1) * miou without sample i, shifted to the mean IoU

    A class that no other sample has, and that none was taken for, is left out without that one.

    Args:
        found: The positions of each class that were predicted as it, sample by sample.
        union: The positions that are of the class, or were predicted as it, or both.

    References:
        Bradley Efron, Robert J. Tibshirani, "An Introduction to the Bootstrap", 1993, section 11.5
        (pseudo-values).
    """
    count, (of_all, total) = len(found), (found.sum(dim=0), union.sum(dim=0))
    value = mean_ratio(of_all[None], total[None])
    if count < 2:
        return value
    without = mean_ratio(of_all - found, total - union)
    values = count * value - (count - 1) * without
    return values - values.mean() + value


def mean_ratio(found: Counts, union: Counts) -> Float64[torch.Tensor, " samples"]:
    """Returns the mean of found / union over the classes that have a union; 0 where none has."""
    ratios = torch.where(union > 0, found.double() / union, torch.nan)
    return ratios.nanmean(dim=1).nan_to_num(0.0)
