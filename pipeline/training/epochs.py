"""One training epoch over one view of a split, as a pure function of settings, seed and epoch.

An epoch goes through *windows* of rows that are in memory (one, if the split is) and cuts each into
*pieces* where batches end; the pieces of a batch that spans windows are joined. What belongs to the
images besides, as labels do, is read with each page and made for each piece by whoever needs it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int64, Integer

from pipeline.data.paging import Paging, window_order, window_rows
from pipeline.data.splits import Split
from pipeline.data.windows import Columns
from pipeline.models.devices import has_room
from pipeline.training.batches import WHOLE, Batch, Share, num_steps
from pipeline.views.plan import RowOrder, ViewPlan, plan_view, take
from pipeline.views.spec import ViewSpec

Beside = TypeVar("Beside")

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Window:
    """The rows of a split that are in memory.

    Places number them, ascending. `order` has the places as they are trained on, of some or of
    all, from position `first` of the epoch on.
    """

    rows: Int64[np.ndarray, " held"]
    order: Int64[torch.Tensor, " trained"]
    first: int
    inputs: Integer[torch.Tensor, "held ..."]
    columns: Columns
    plan: ViewPlan

    @property
    def positions(self) -> range:
        """The positions of the epoch that this window covers."""
        return range(self.first, self.first + len(self.order))

    def batch(self, places: Int64[torch.Tensor, " some"]) -> Batch:
        """Returns the views of some places, with their hard labels."""
        partners = None if self.plan.partner_rows is None else self._inputs_of(self.plan.partner_rows[places])
        return Batch(
            self.plan.render_inputs(places, take(self.inputs, places), partners),
            self.plan.labels(places),
            self.plan.partner_labels(places),
            self.plan.own_shares(places),
        )

    def _inputs_of(self, rows: Int64[torch.Tensor, " some"]) -> Integer[torch.Tensor, "some ..."]:
        """Returns the inputs of rows of the split.

        All but a few are in the window: the partner of a repeated sample is where that sample
        stands first.
        """
        places = np.searchsorted(self.rows, rows.numpy()).clip(max=len(self.rows) - 1)
        inputs = take(self.inputs, torch.from_numpy(places))
        away = np.flatnonzero(self.rows[places] != rows.numpy())
        if len(away):
            elsewhere = self.plan.split.take(rows.numpy()[away]).inputs
            inputs[torch.from_numpy(away)] = elsewhere.to(inputs.device)
        return inputs


class Piece(NamedTuple):
    """A batch, or the part of it that one window has, and its positions in the epoch."""

    batch: Batch
    window: Window
    positions: range


@dataclass(frozen=True)
class Epoch:
    """A shuffled epoch over one view of a split.

    Args:
        number: Of the epoch, from 0: which order.
        share: What is rendered of each batch; what is streamed is read whole, for neighbours lie
            far apart.
        paging: How a split on disk is gone through; None: in one window. One in memory is one
            window.
        row_order: Of the store whose views these are; None: each image's partner is in its window.
        is_trained: Which rows batches are made of; None: all.
        resident: A split in memory once more, on a device: where it is given, images are taken and
            rendered there.
        beside: What else a window needs of a page, read with its images.
        device: Where windows of a split on disk are taken to and rendered, if it is a GPU and has
            room.
    """

    split: Split
    views: ViewSpec
    _: KW_ONLY
    view: int
    number: int
    batch_size: int
    seed: int
    share: Share = WHOLE
    paging: Paging | None = None
    row_order: RowOrder | None = None
    is_trained: Bool[np.ndarray, " samples"] | None = None
    resident: Split | None = None
    beside: Callable[[range], Columns] = lambda page: {}
    device: torch.device = _CPU

    @cached_property
    def num_samples(self) -> int:
        """The number of samples that are trained on."""
        return len(self.split) if self.is_trained is None else int(self.is_trained.sum())

    @cached_property
    def own(self) -> slice:
        """The share's places in each batch."""
        return self.share.of(min(self.batch_size, self.num_samples))

    @property
    def num_own(self) -> int:
        """The number of samples that the share has of each batch."""
        return int(self.own.stop - self.own.start)

    def batches(self, start_step: int = 0) -> Iterator[Batch]:
        """Yields the share of every batch from a step on."""
        for batch, _ in join_pieces(((piece.batch, None) for piece in self.pieces(start_step)), self.num_own):
            yield batch

    def pieces(self, start_step: int) -> Iterator[Piece]:
        """Yields the pieces of every batch from a step on.

        These are whole batches only, unless all rows make less than one. A piece's window is
        good until the next piece is asked for.
        """
        size, rows = self.batch_size, self.num_samples
        begin, end = start_step * size, min(rows, num_steps(rows, size) * size)
        for window in self._windows(begin, end):
            low, high = max(begin, window.positions.start), min(end, window.positions.stop)
            for first in range(low // size * size, high, size):
                positions = range(max(low, first + self.own.start), min(high, first + self.own.stop))
                if positions:
                    places = window.order[positions.start - window.first : positions.stop - window.first]
                    yield Piece(window.batch(places), window, positions)

    def own_places(self, window: Window, positions: range) -> Int64[torch.Tensor, " own"]:
        """Returns the places at some positions of a window, those in the share of their batch."""
        within = np.arange(positions.start, positions.stop) % self.batch_size
        is_own = torch.from_numpy((within >= self.own.start) & (within < self.own.stop))
        return window.order[positions.start - window.first : positions.stop - window.first][is_own]

    def _windows(self, begin: int, end: int) -> Iterator[Window]:
        """Yields the windows that hold the positions `begin` to `end`."""
        windows = (self.paging or Paging.whole(len(self.split))).windows(self.number, self.seed)
        borders = np.cumsum([0, *(self._num_trained(pages) for pages in windows)]).tolist()
        needed = [number for number, (low, high) in enumerate(pairwise(borders)) if max(low, begin) < min(high, end)]
        if not needed:
            return
        contents = self.split.windows([windows[number] for number in needed], self.beside)
        for columns, number in zip(contents, needed, strict=True):
            yield self._window(windows[number], borders[number], columns)

    def _num_trained(self, pages: Sequence[range]) -> int:
        if self.is_trained is None:
            return sum(map(len, pages))
        return sum(int(self.is_trained[page.start : page.stop].sum()) for page in pages)

    def _window(self, pages: Sequence[range], first: int, columns: Columns) -> Window:
        rows = window_rows(pages)
        places = np.arange(len(rows)) if self.is_trained is None else np.flatnonzero(self.is_trained[rows])
        order = torch.from_numpy(places[window_order(rows[places], self.number, self.seed)])
        row_order = self.row_order or RowOrder(self.split.sample_ids[rows], len(rows))
        plan = plan_view(self.split, self.views, self.view, rows=rows, row_order=row_order)
        return Window(rows, order, first, self._inputs(columns), columns, plan)

    def _inputs(self, columns: Columns) -> Integer[torch.Tensor, "held ..."]:
        inputs = (self.resident or self.split).window_inputs(columns)
        if self.split.is_streamed and has_room(self.device, inputs.nbytes):
            return inputs.to(self.device)
        return inputs


def join_pieces(pieces: Iterable[tuple[Batch, Beside]], size: int) -> Iterator[tuple[Batch, list[Beside]]]:
    """Yields batches of `size`, each with what stands beside its pieces."""
    waiting: list[tuple[Batch, Beside]] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(len(batch.hard_labels) for batch, _ in waiting) == size:
            batches, beside = zip(*waiting, strict=True)
            waiting = []
            yield _join(batches), list(beside)


def _join(pieces: Sequence[Batch]) -> Batch:
    if len(pieces) == 1:
        return pieces[0]
    return Batch(
        _joined([piece.inputs for piece in pieces]),
        torch.cat([piece.hard_labels for piece in pieces]),
        join_tensors([piece.partner_labels for piece in pieces]),
        join_tensors([piece.own_shares for piece in pieces]),
    )


def _joined(parts: Sequence[Integer[torch.Tensor, "_ ..."]]) -> Integer[torch.Tensor, "batch ..."]:
    """Returns inputs as one tensor, on a processor by NumPy: for `take`'s reason."""
    if parts[0].device.type == "cpu":
        return torch.from_numpy(np.concatenate([part.numpy() for part in parts]))
    return torch.cat(list(parts))


def join_tensors(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """Returns tensors that either all are there or all are not as one; None where they are not."""
    there = [part for part in parts if part is not None]
    if len(there) <= 1:
        return there[0] if there else None
    return torch.cat(there)
