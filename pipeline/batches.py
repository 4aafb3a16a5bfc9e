"""Data set x views -> batches of pixels, in an order that is a pure function of (seed, epoch)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8

from pipeline.datasets import Split
from pipeline.seeding import derive_seed, permutation
from pipeline.views import ViewSpec, render


@dataclass(frozen=True)
class Batch:
    """Pixels, their hard labels, and which rows of the split they are."""

    images: UInt8[torch.Tensor, "batch channels height width"]
    hard_labels: Int64[torch.Tensor, " batch"]
    row_index: Int64[torch.Tensor, " batch"]


def num_steps(num_samples: int, batch_size: int) -> int:
    """Steps in a training epoch: whole batches only, but at least one (a rest of one image would upset batch norm)."""
    return max(1, num_samples // batch_size)


def training_batches(
    split: Split, spec: ViewSpec, *, view: int, epoch: int, batch_size: int, seed: int, start_step: int = 0
) -> Iterator[Batch]:
    """A shuffled epoch over one view of every image, from step `start_step` on."""
    order = torch.from_numpy(permutation(derive_seed(seed, "order"), len(split), epoch))
    draws = spec.draw(split.sample_ids, view)
    for step in range(start_step, num_steps(len(split), batch_size)):
        rows = order[step * batch_size : (step + 1) * batch_size]
        yield Batch(render(split.images[rows], draws[rows], spec), split.hard_labels[rows], rows)


def view_batches(
    split: Split, spec: ViewSpec, view: int, rows: range, batch_size: int
) -> Iterator[UInt8[torch.Tensor, "batch channels height width"]]:
    """One view of a range of rows, in their order."""
    draws = spec.draw(split.sample_ids[rows.start : rows.stop], view)
    for start in range(rows.start, rows.stop, batch_size):
        stop = min(start + batch_size, rows.stop)
        yield render(split.images[start:stop], draws[start - rows.start : stop - rows.start], spec)


def plain_batches(split: Split, batch_size: int) -> Iterator[UInt8[torch.Tensor, "batch channels height width"]]:
    """The images as they are, in their order."""
    yield from split.images.split(batch_size)
