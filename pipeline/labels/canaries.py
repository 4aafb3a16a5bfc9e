"""Canaries: a few numbers of a few views (pixels of images), kept in a store, by which a reader
proves that it renders what the teacher saw. Stores of format 1 keep thumbnails instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, Integer, UInt64

from pipeline.core.errors import StoreError
from pipeline.core.remedies import Remedies
from pipeline.core.seeding import integers_below, philox
from pipeline.data.input_kinds import IMAGE, INPUT_KINDS, InputKind
from pipeline.data.sample_ids import find_samples
from pipeline.data.splits import Split
from pipeline.labels.manifest import OF_STAGES
from pipeline.views.plan import RowOrder, need_partners, plan_view, thumbnail_shape_of
from pipeline.views.spec import ViewSpec

NUM_POINTS = 16  # of a view, which refuse what thumbnails of 32 x 32 do (tests/labels/test_canary_power.py)
_MOST_POINTS = 1024
_TYPES = {kind.dtype for kind in INPUT_KINDS.values()}


#: The array of a store that holds each field of `Canaries`; docs/store-format.md names them.
CANARY_ARRAYS = {"sample_ids": "canary_sample_ids", "views": "canary_views", "rendered": "canary_pixels"}


@dataclass(frozen=True)
class Canaries:
    """The canaries of a store: sample ids, view numbers, and of each view a few pixels as the
    teacher saw them.

    Attributes:
        rendered: [canaries, channels, points]; of a store of format 1 thumbnails, [canaries,
            channels, height, width].
    """

    sample_ids: UInt64[np.ndarray, " canaries"]
    views: Int64[np.ndarray, " canaries"]
    rendered: Integer[np.ndarray, "canaries ..."]

    @property
    def are_points(self) -> bool:
        """Whether single pixels are kept, and not thumbnails."""
        return self.rendered.ndim == 3

    def take(self, rows: np.ndarray) -> "Canaries":
        """Returns some of them."""
        return Canaries(self.sample_ids[rows], self.views[rows], self.rendered[rows])


def canary_layouts(
    rendered: Sequence[int], dtype: np.dtype[Any] = IMAGE.dtype
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Returns shape and type of each canary array, where what is kept of the views has a shape and
    a type.
    """
    count, *each = rendered or (0,)
    if not (len(each) == 3 or (len(each) == 2 and 1 <= each[1] <= _MOST_POINTS)):
        each = [1, NUM_POINTS]
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "sample_ids": ((count,), np.uint64),
        "views": ((count,), np.int64),
        "rendered": ((count, *each), dtype if dtype in _TYPES else IMAGE.dtype),
    }
    return {CANARY_ARRAYS[name]: (shape, np.dtype(dtype)) for name, (shape, dtype) in shapes.items()}


def make_canaries(
    split: Split,
    spec: ViewSpec,
    views: Sequence[int],
    count: int,
    row_order: RowOrder | None = None,
) -> Canaries:
    """Returns about `count` canaries, spread over view numbers and samples by the spec's seed;
    `row_order` as for `plan_view`.
    """
    position = np.arange(min(count, len(split) * len(views)), dtype=np.int64)
    zero = np.zeros_like(position)
    rows = integers_below(philox(spec.seed, (position, zero, zero - 1, zero - 1))[0], len(split))
    numbers = np.asarray(views, dtype=np.int64)[position % len(views)]
    order = np.argsort(numbers, kind="stable")
    ids, numbers = split.sample_ids[rows[order]], numbers[order]
    shape = (_num_channels(split), NUM_POINTS)
    return Canaries(ids, numbers, _render(split, rows[order], numbers, spec, row_order, shape).numpy())


def check_canaries(
    canaries: Canaries,
    split: Split,
    spec: ViewSpec,
    where: object,
    row_order: RowOrder | None = None,
    remedies: Remedies = OF_STAGES,
) -> int:
    """Renders every canary whose sample is in `split` again; returns how many these were.
    `row_order` as for `plan_view`.

    Raises StoreError where a view is not what the teacher saw: then its labels would not fit the
    inputs; or where views are mixed and the split lacks a sample of the store."""
    rows = find_samples(canaries.sample_ids, split.sample_ids)
    here = rows >= 0
    if not here.any():
        return 0
    if row_order:
        need_partners(split, spec, row_order)
    shape = tuple(canaries.rendered.shape[1:])
    if shape != ((_num_channels(split), shape[-1]) if canaries.are_points else thumbnail_shape_of(split)):
        found, kept = f"inputs of shape {split.input_shape}", "points" if canaries.are_points else "thumbnails"
        raise StoreError(where, found, expected=f"{kept} of shape {shape}")
    rendered = _render(split, rows[here], canaries.views[here], spec, row_order, shape)
    tolerance = split.content.kind.tolerance
    difference = (rendered.long() - torch.from_numpy(canaries.rendered[here]).long()).abs().flatten(1).amax(dim=1)
    if wrong := int((difference > tolerance).sum()):
        first = int(torch.nonzero(difference > tolerance)[0])
        sample, view = int(canaries.sample_ids[here][first]), int(canaries.views[here][first])
        raise StoreError(
            where,
            f"{wrong} of {int(here.sum())} views are not what the teacher saw (first: sample {sample:016x}, view {view}, "
            f"{_off(int(difference[first]), split.content.kind)})",
            expected=f"at most {tolerance} levels" if tolerance else "the same numbers",
            fix=remedies.other_views,
        )
    return int(here.sum())


def _num_channels(split: Split) -> int:
    """Returns the channels of a sample; what is not an image has one."""
    return split.input_shape[0] if len(split.input_shape) == 3 else 1


def _off(difference: int, kind: InputKind) -> str:
    return f"{difference} of 255 levels off" if kind == IMAGE else "other numbers"


def _render(
    split: Split,
    rows: np.ndarray,
    views: np.ndarray,
    spec: ViewSpec,
    row_order: RowOrder | None,
    shape: tuple[int, ...],
) -> torch.Tensor:
    """Returns what is kept of some views, each of this shape."""
    rendered = torch.from_numpy(np.empty((len(rows), *shape), split.content.kind.dtype))
    for view in np.unique(views):
        chosen = np.flatnonzero(views == view)
        plan = plan_view(split, spec, int(view), rows=rows[chosen], row_order=row_order)
        rendered[torch.from_numpy(chosen)] = plan.points(shape[-1], int(view)) if len(shape) == 2 else plan.thumbnails()
    return rendered
