"""Canaries: thumbnails of a few views, kept in a store, by which a reader proves that it renders what the teacher saw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8, UInt64

from pipeline.datasets import Split, find_samples
from pipeline.errors import StoreError
from pipeline.seeding import integers_below, philox
from pipeline.views import ViewSpec, render, thumbnails

TOLERANCE_LEVELS = 2  # of 255: what rounding in another library may do, and far less than a shift by one pixel


@dataclass(frozen=True)
class Canaries:
    """Sample ids and view numbers, and the thumbnails of these views as they were rendered for the teacher."""

    sample_ids: UInt64[np.ndarray, " canaries"]
    views: Int64[np.ndarray, " canaries"]
    pixels: UInt8[np.ndarray, "canaries channels height width"]


def make_canaries(split: Split, spec: ViewSpec, views: Sequence[int], count: int) -> Canaries:
    """About `count` canaries, spread over view numbers and samples by the spec's seed."""
    position = np.arange(min(count, len(split) * len(views)), dtype=np.int64)
    zero = np.zeros_like(position)
    rows = integers_below(philox(spec.seed, (position, zero, zero - 1, zero - 1))[0], len(split))
    numbers = np.asarray(views, dtype=np.int64)[position % len(views)]
    order = np.argsort(numbers, kind="stable")
    ids, numbers = split.sample_ids[rows[order]], numbers[order]
    return Canaries(ids, numbers, _render(split, rows[order], numbers, spec).numpy())


def check_canaries(canaries: Canaries, split: Split, spec: ViewSpec, where: object) -> int:
    """Renders every canary whose image is in `split` again; returns how many these were.

    Raises StoreError where a view is not what the teacher saw: then its labels would not fit the pixels.
    """
    rows = find_samples(canaries.sample_ids, split.sample_ids)
    here = rows >= 0
    if not here.any():
        return 0
    if tuple(canaries.pixels.shape[1:]) != tuple(thumbnails(split.images[:1]).shape[1:]):
        found = f"images of shape {tuple(split.images.shape[1:])}"
        raise StoreError(where, found, expected=f"thumbnails of shape {tuple(canaries.pixels.shape[1:])}")
    rendered = _render(split, rows[here], canaries.views[here], spec)
    difference = (rendered.int() - torch.from_numpy(canaries.pixels[here]).int()).abs().amax(dim=(1, 2, 3))
    if wrong := int((difference > TOLERANCE_LEVELS).sum()):
        first = int(torch.nonzero(difference > TOLERANCE_LEVELS)[0])
        sample, view = int(canaries.sample_ids[here][first]), int(canaries.views[here][first])
        raise StoreError(
            where,
            f"{wrong} of {int(here.sum())} views are not what the teacher saw (first: sample {sample:016x}, view {view}, "
            f"{int(difference[first])} of 255 levels off)",
            expected=f"at most {TOLERANCE_LEVELS} levels",
            mend="the code that renders views has changed: run `dvc repro dump_labels`",
        )
    return int(here.sum())


def _render(split: Split, rows: np.ndarray, views: np.ndarray, spec: ViewSpec) -> torch.Tensor:
    parts = []
    for view in sorted(set(views.tolist())):
        chosen = rows[views == view]
        draws = spec.draw(split.sample_ids[chosen], view)
        parts.append(
            (np.flatnonzero(views == view), thumbnails(render(split.images[torch.from_numpy(chosen)], draws, spec)))
        )
    pixels = torch.empty((len(rows), *parts[0][1].shape[1:]), dtype=torch.uint8)
    for position, rendered in parts:
        pixels[torch.from_numpy(position)] = rendered
    return pixels
