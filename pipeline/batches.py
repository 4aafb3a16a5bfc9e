"""Data set x views -> batches of pixels, in an order that is a pure function of (seed, epoch)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8

from pipeline.datasets import Split
from pipeline.seeding import derive_seed, permutation
from pipeline.targets import SparseTargets
from pipeline.views import ViewSpec, render


@dataclass(frozen=True)
class Batch:
    """Pixels, their hard labels, and which rows of the split they are."""

    images: UInt8[torch.Tensor, "batch channels height width"]
    hard_labels: Int64[torch.Tensor, " batch"]
    row_index: Int64[torch.Tensor, " batch"]


@dataclass(frozen=True)
class LabelledBatch:
    """Views as pixels, hard labels, and each view's soft targets (None for students that learn from hard labels alone).

    Where views are mixed of two images, `partner_labels` are the second images' hard labels and `own_shares` (0.5 to 1)
    the weight of the first. `epoch` counts from 0.
    """

    images: UInt8[torch.Tensor, "batch channels height width"]
    hard_labels: Int64[torch.Tensor, " batch"]
    soft_targets: Float[torch.Tensor, "batch classes"] | SparseTargets | None
    epoch: int = 0
    partner_labels: Int64[torch.Tensor, " batch"] | None = None
    own_shares: Float[torch.Tensor, " batch"] | None = None


def num_steps(num_samples: int, batch_size: int) -> int:
    """Steps in a training epoch: whole batches only, but at least one (a rest of one image would upset batch norm)."""
    return max(1, num_samples // batch_size)


def epoch_order(num_samples: int, epoch: int, seed: int) -> Int64[torch.Tensor, " samples"]:
    """The order in which an epoch goes through the rows of a split."""
    return torch.from_numpy(permutation(derive_seed(seed, "order"), num_samples, epoch))


def training_batches(
    split: Split, spec: ViewSpec, *, view: int, epoch: int, batch_size: int, seed: int, start_step: int = 0
) -> Iterator[Batch]:
    """A shuffled epoch over one view of every image, from step `start_step` on."""
    order = epoch_order(len(split), epoch, seed)
    draws = spec.draw(split.sample_ids, view)
    for step in range(start_step, num_steps(len(split), batch_size)):
        rows = order[step * batch_size : (step + 1) * batch_size]
        yield Batch(render(split.images[rows], draws[rows], spec), split.hard_labels[rows], rows)


def view_batches(
    split: Split, spec: ViewSpec, view: int, rows: range | Int64[np.ndarray, " rows"], batch_size: int
) -> Iterator[UInt8[torch.Tensor, "batch channels height width"]]:
    """One view of some rows, in their order."""
    rows = np.asarray(rows, dtype=np.int64)
    draws = spec.draw(split.sample_ids[rows], view)
    for start in range(0, len(rows), batch_size):
        some = slice(start, start + batch_size)
        yield render(split.images[torch.from_numpy(rows[some])], draws[some], spec)


def plain_batches(split: Split, batch_size: int) -> Iterator[UInt8[torch.Tensor, "batch channels height width"]]:
    """The images as they are, in their order."""
    yield from split.images.split(batch_size)
