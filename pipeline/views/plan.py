"""Rows of a split -> batches of views: planned for any rows, and rendered from their inputs."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float32, Int64, Integer, Shaped, UInt8, UInt64

from pipeline.core.errors import StoreError
from pipeline.data.input_kinds import InputKind
from pipeline.data.sample_ids import SampleIndex
from pipeline.data.splits import HardLabels, Split
from pipeline.views.maps import are_maps, move_maps
from pipeline.views.points import pick_points
from pipeline.views.spec import ViewSpec, own_shares, render
from pipeline.views.thumbnails import thumbnail_shape, thumbnails

Places = slice | Int64[torch.Tensor, " batch"]


@dataclass(frozen=True)
class RowOrder:
    """The sample ids of a store in row order, and its block size.

    A mixed view takes its partner from the same block.
    """

    sample_ids: UInt64[np.ndarray, " samples"]
    block_samples: int
    location: str = "the store"
    fix: str = "run `dvc repro dump_labels` for this data"

    @cached_property
    def index(self) -> SampleIndex:
        """The row of each sample id."""
        return SampleIndex(self.sample_ids)


@dataclass(frozen=True)
class ViewPlan:
    """A plan of one view of some rows of a split, before anything is rendered.

    It has what is drawn for each row and, where views are mixed of two samples, the row and the
    draws of the second one. Methods take places among the planned rows; where all rows are planned,
    these are the rows themselves.
    """

    split: Split
    spec: ViewSpec
    rows: Int64[torch.Tensor, " planned"]
    draws: Int64[torch.Tensor, "planned columns"]
    partner_rows: Int64[torch.Tensor, " planned"] | None
    partner_draws: Int64[torch.Tensor, "planned columns"] | None

    def render(self, places: Places) -> Integer[torch.Tensor, "batch ..."]:
        """Returns the views."""
        return self.render_inputs(places, *self.inputs(places))

    def inputs(self, places: Places) -> list[Integer[torch.Tensor, "batch ..."]]:
        """Returns the inputs of `rows` and, where views are mixed, those of `partner_rows`."""
        parts = [self.rows] if self.partner_rows is None else [self.rows, self.partner_rows]
        return [self.split.inputs_of(part[places]) for part in parts]

    def render_inputs(
        self,
        places: Places,
        inputs: Integer[torch.Tensor, "batch ..."],
        partner_inputs: Integer[torch.Tensor, "batch ..."] | None = None,
    ) -> Integer[torch.Tensor, "batch ..."]:
        """Returns the views of inputs that the caller has read."""
        partner_draws = None if self.partner_draws is None else _beside(inputs, self.partner_draws[places])
        return render(inputs, _beside(inputs, self.draws[places]), self.spec, partner_inputs, partner_draws)

    def thumbnails(self) -> UInt8[torch.Tensor, "planned ..."]:
        """Returns small pictures of all planned views: the canaries of stores of format 1."""
        return thumbnails(self.render(slice(None)))

    def points(self, count: int, view: int) -> Integer[torch.Tensor, "planned channels points"]:
        """Returns a few numbers of all planned views, for a store to keep as canaries.

        Args:
            view: The number of the view that is planned.
        """
        ids = self.split.sample_ids[self.rows.numpy()]
        points = pick_points(self.render(slice(None)), count, self.spec.seed, ids, view)
        signs = self.split.content.signs
        return points if signs is None else torch.from_numpy(signs)[points.long()]

    def labels(self, places: Places) -> HardLabels:
        """Returns the hard labels of views; maps of classes lie as the pixels of the views do."""
        labels = take(self.split.hard_labels, self.rows[places])
        if not are_maps(labels):
            return labels
        draws = _beside(labels, self.draws[places])
        if self.partner_rows is None or self.partner_draws is None:
            return move_maps(labels, draws, self.spec)
        partners = take(self.split.hard_labels, self.partner_rows[places])
        return move_maps(labels, draws, self.spec, partners, _beside(labels, self.partner_draws[places]))

    @property
    def _mixes_labels(self) -> bool:
        """Whether a view has the labels of two samples; a map has one class at each pixel."""
        return self.spec.mixes_labels and not are_maps(self.split.hard_labels)

    def own_shares(self, places: Places) -> Float32[torch.Tensor, " batch"] | None:
        """Returns the first sample's share of each view, 0.5 to 1; None where no label is mixed."""
        if not self._mixes_labels:
            return None
        return own_shares(self.draws[places], self.split.input_shape, self.spec)

    def partner_labels(self, places: Places) -> HardLabels | None:
        """Returns the second samples' hard labels; None where no label is mixed."""
        if self.partner_rows is None or not self._mixes_labels:
            return None
        return take(self.split.hard_labels, self.partner_rows[places])


def thumbnail_shape_of(split: Split) -> tuple[int, ...]:
    """Returns the shape of the small picture that a store of format 1 keeps of a view."""
    return thumbnail_shape(split.input_shape)


def take(
    values: Shaped[torch.Tensor, "_ ..."], rows: Int64[torch.Tensor, " batch"]
) -> Shaped[torch.Tensor, "batch ..."]:
    """Returns some rows of a tensor, wherever it lies; no device is waited for.

    They are copied whole: 128 images of 28 x 28 take 4 us by NumPy, 133 us by `values[rows]`. NumPy
    leaves the other processors to threads that decode images meanwhile.
    """
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy().take(rows.numpy(), axis=0))
    return values.index_select(0, _beside(values, rows))


def _beside(there: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Returns values on the device of another tensor."""
    return values.to(there.device, non_blocking=True)


def plan_view(
    split: Split,
    spec: ViewSpec,
    view: int,
    *,
    rows: Int64[np.ndarray, " rows"] | None = None,
    row_order: RowOrder | None = None,
) -> ViewPlan:
    """Returns the plan of a view of all rows of a split, or of some.

    Args:
        row_order: Of the store whose views these are; None: the split's own, all in one block.

    Raises:
        StoreError: Views are mixed, and a sample's partner in the store is not in the split.
    """
    chosen = np.arange(len(split)) if rows is None else rows
    draws = spec.draw(split.sample_ids[chosen], view)
    if not spec.mixes:
        return ViewPlan(split, spec, torch.from_numpy(chosen), draws, None, None)
    partners = _partner_rows(split, spec, view, chosen, row_order or RowOrder(split.sample_ids, len(split)))
    partner_draws = spec.draw(split.sample_ids[partners], view)
    return ViewPlan(split, spec, torch.from_numpy(chosen), draws, torch.from_numpy(partners), partner_draws)


def _partner_rows(split: Split, spec: ViewSpec, view: int, rows: np.ndarray, order: RowOrder) -> np.ndarray:
    """Returns the rows of the split that are mixed into some others.

    Of equal samples, the first one in the store counts: its label is the one that a student finds.
    """
    # 1. Partners are chosen among the rows of the store, so that a part of it has the same ones.
    stored = order.index.find(split.sample_ids[rows])
    partners = order.sample_ids[spec.partners(order.sample_ids, view, order.block_samples, stored[stored >= 0])]
    # 2. The split must have them, wherever they stand in it.
    found = split.index.find(partners)
    _need_all(len(rows) - int((found >= 0).sum()), len(rows), order, split.content.kind)
    return found


def need_partners(split: Split, spec: ViewSpec, row_order: RowOrder) -> None:
    """Raises StoreError where views are mixed and a sample of their store is not in the split."""
    if spec.mixes:
        lost = int((split.index.find(row_order.sample_ids) < 0).sum())
        _need_all(lost, len(row_order.sample_ids), row_order, split.content.kind)


def _need_all(lost: int, count: int, order: RowOrder, kind: InputKind) -> None:
    if lost:
        raise StoreError(
            order.location,
            f"its views are mixed of two {kind.things}, and {lost} of {count} {kind.things} are not here",
            expected=f"every {kind.thing} of the store",
            fix=order.fix,
        )


def view_batches(
    split: Split,
    spec: ViewSpec,
    view: int,
    rows: range | Int64[np.ndarray, " rows"],
    batch_size: int,
    row_order: RowOrder | None = None,
) -> Iterator[Integer[torch.Tensor, "batch ..."]]:
    """Yields one view of some rows, in their order; `row_order` as for `plan_view`."""
    plan = plan_view(split, spec, view, rows=np.asarray(rows, dtype=np.int64), row_order=row_order)
    for start in range(0, len(rows), batch_size):
        yield plan.render(slice(start, start + batch_size))
