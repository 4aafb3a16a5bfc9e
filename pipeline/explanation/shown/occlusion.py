"""The nats that a class loses where a piece of a sample is covered, for samples of any kind."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer

from pipeline.explanation.shown.base import Network, Sample

#: Samples with a piece covered, and the places that each piece covers.
Covered = tuple[Integer[torch.Tensor, "pieces ..."], Bool[np.ndarray, "pieces ..."]]


@torch.no_grad()
def occlude(
    network: Network, number: int, sample: Sample, covered: Iterable[Covered], batch_size: int
) -> Float[np.ndarray, "*shape"]:
    """Returns for each place of a sample the mean loss over the pieces that cover it; NaN where
    none does.

    Args:
        number: The sample's place among the network's `classes`.
        covered: The sample with each piece covered, some at a time.
        batch_size: Samples that the network takes at a time, at most.
    """
    asked = int(network.classes[number])

    def values(samples: torch.Tensor) -> np.ndarray:
        parts = [network.values_of(some.to(network.device))[:, asked] for some in samples.split(batch_size)]
        found: np.ndarray = torch.cat(parts).cpu().numpy()
        return found

    whole, totals, counts = values(sample[None])[0], np.zeros(()), np.zeros(())
    for samples, places in covered:
        drops = whole - values(samples)
        totals = totals + np.tensordot(drops, places.astype(np.float64), axes=1)
        counts = counts + places.sum(axis=0)
    means: np.ndarray = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
    return means


def spans(length: int, window: int, stride: int) -> list[slice]:
    """Returns where a window stands that slides over a length; the last one ends at its end."""
    last = max(0, length - window)
    starts = [*range(0, last, stride), last]
    return [slice(start, min(length, start + window)) for start in starts]
