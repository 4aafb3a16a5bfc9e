"""Views with the stored labels that belong to them, batch by batch: of data in memory, and of data streamed from disk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8

from pipeline.batches import WHOLE, LabelledBatch, Share, ViewPlan, num_steps, plan_view, take
from pipeline.canaries import check_canaries
from pipeline.datasets import UNLABELLED, Split, StreamedSplit
from pipeline.errors import StoreError
from pipeline.joining import MEND, JoinedStore, choose_held, read_labels
from pipeline.store import StoreReader
from pipeline.streaming import Columns, MemoryBudget, read_windows, window_order, window_rows
from pipeline.targets import SparseTargets

Targets = Float[torch.Tensor, "_ _"] | SparseTargets | None

# Labels are joined and decoded for many batches at once, in pieces of about this many numbers: for ten classes that
# takes a fifth of the time of doing it batch by batch, and it stays within a processor's cache.
_DECODED_ENTRIES = 1 << 18
_DECODED_BATCHES = 64
_IMAGES = "images"
_CPU = torch.device("cpu")


class LabelledViews:
    """A training split with the labels of a store, joined by sample id. Checked before the first batch.

    Batches are of all samples; where no soft targets are read, of those that have a hard label.

    Raises StoreError where the store is for other data, lacks some of the images, was made of other views, or can't
    serve the temperature; ConfigError where the budget is too small to stream the split.

    Args:
        temperature: Of the soft targets; None: none are read.
        device: Where soft targets are decoded and left; they travel there as they are stored.
        budget: What a split on disk is read by.
        resident: A split in memory once more, on a device: where it is given, images are taken and rendered there.
    """

    def __init__(
        self,
        split: Split | StreamedSplit,
        store: StoreReader,
        class_names: list[str],
        temperature: float | None,
        device: torch.device = _CPU,
        budget: MemoryBudget | None = None,
        resident: Split | None = None,
    ) -> None:
        if store.manifest.class_names != class_names:
            found, expected = _first_difference(store.manifest.class_names, class_names)
            raise StoreError(store.location, found, expected=f"{expected} (data/prepare)", mend=MEND)
        if temperature is not None:
            store.codec.require(temperature)
        self.split, self.store, self.temperature, self.device = split, store, temperature, device
        self.resident = split if resident is None and isinstance(split, Split) else resident
        #: Which rows of the split are trained on.
        self.is_trained: Bool[np.ndarray, " samples"] = np.ones(len(split), dtype=bool)
        if temperature is None:
            self.is_trained = split.hard_labels.numpy() != UNLABELLED
        self.num_samples = int(self.is_trained.sum())
        self.joined = JoinedStore(split, store, budget)
        choose_held([] if temperature is None else [self.joined])
        check_canaries(store.canaries, split, store.views, store.location, store.row_order)

    def steps_per_epoch(self, batch_size: int) -> int:
        return num_steps(self.num_samples, batch_size)

    def batches(
        self, epoch: int, start_step: int, *, batch_size: int, seed: int, share: Share = WHOLE
    ) -> Iterator[LabelledBatch]:
        """A shuffled epoch over one view, in turn, with that view's labels; of each batch only a share."""
        for (batch,) in shared_batches([self], epoch, start_step, batch_size=batch_size, seed=seed, share=share):
            yield batch


def shared_batches(
    several: Sequence[LabelledViews],
    epoch: int,
    start_step: int,
    *,
    batch_size: int,
    seed: int,
    share: Share = WHOLE,
) -> Iterator[tuple[LabelledBatch, ...]]:
    """A shuffled epoch over one view, in turn, for several students at once: the batches that each would have alone.

    Images are read and rendered once, and so are the soft targets of one store at one temperature decoded once. All are
    of one split (the same object) and of the same views; their stores and temperatures may differ. Of batches of
    `batch_size`, only a share is rendered and decoded; what is streamed is read whole, for neighbours lie far apart.
    """
    shared = _Epoch(several, epoch, batch_size, seed, share)
    waiting: list[_Piece] = []
    for piece in shared.pieces(start_step):
        waiting.append(piece)
        if sum(len(piece.hard_labels) for piece in waiting) == shared.num_own:
            whole = _join(waiting)
            waiting = []
            yield tuple(
                LabelledBatch(whole.images, whole.hard_labels, targets, epoch, whole.partner_labels, whole.own_shares)
                for targets in whole.targets
            )


@dataclass(frozen=True)
class _Piece:
    """A batch, or what one window has of it; `targets` are of one student after the other."""

    images: UInt8[torch.Tensor, "piece channels height width"]
    hard_labels: Int64[torch.Tensor, " piece"]
    partner_labels: Int64[torch.Tensor, " piece"] | None
    own_shares: Float[torch.Tensor, " piece"] | None
    targets: Sequence[Targets]


@dataclass(frozen=True)
class _Window:
    """Rows of a split that are in memory. Places number them, ascending; `order` has the places as they are trained on,
    of some or of all."""

    rows: Int64[np.ndarray, " held"]
    order: Int64[torch.Tensor, " trained"]
    images: UInt8[torch.Tensor, "held channels height width"]
    columns: Columns
    plan: ViewPlan

    def render(self, places: Int64[torch.Tensor, " some"]) -> UInt8[torch.Tensor, "some channels height width"]:
        """The views of some places."""
        partners = None if self.plan.partner_rows is None else self._images_of(self.plan.partner_rows[places])
        return self.plan.render_images(places, take(self.images, places), partners)

    def _images_of(self, rows: Int64[torch.Tensor, " some"]) -> UInt8[torch.Tensor, "some channels height width"]:
        """The images of rows of the split. All but a few are here: the partner of a repeated image is in the block where
        that image stands first."""
        places = np.searchsorted(self.rows, rows.numpy()).clip(max=len(self.rows) - 1)
        images = take(self.images, torch.from_numpy(places))
        away = np.flatnonzero(self.rows[places] != rows.numpy())
        if len(away):
            assert isinstance(self.plan.split, StreamedSplit), "a window in memory holds all"
            images[torch.from_numpy(away)] = self.plan.split.take(rows.numpy()[away]).images
        return images


class _Epoch:
    """One epoch of several students, piece by piece: a pure function of settings, seed, epoch and step."""

    def __init__(self, several: Sequence[LabelledViews], epoch: int, batch_size: int, seed: int, share: Share) -> None:
        lead = several[0]
        for views in several:
            assert views.split is lead.split, "one split"
            assert np.array_equal(views.is_trained, lead.is_trained), "the same samples"
            assert views.store.views == lead.store.views, "the same views"
            assert views.store.manifest.view_numbers == lead.store.manifest.view_numbers, "the same views"
            assert views.joined.paging == lead.joined.paging, "one budget"
        self._several, self._lead, self._split = several, lead, lead.split
        self._epoch, self._batch_size, self._seed = epoch, batch_size, seed
        self._own = share.of(min(batch_size, lead.num_samples))  # places in each batch
        self.num_own = self._own.stop - self._own.start
        view_index = epoch % lead.store.manifest.num_views
        self._view = lead.store.manifest.view_numbers[view_index]
        self._labels = read_labels(
            {views.store.location: views.joined for views in several if views.temperature is not None}, view_index
        )
        at_once = _DECODED_ENTRIES // (batch_size * lead.store.manifest.num_classes)
        self._decoded = batch_size * max(1, min(_DECODED_BATCHES, at_once))

    def pieces(self, start_step: int) -> Iterator[_Piece]:
        """From a step on; whole batches only, unless all rows make less than one."""
        rows = self._lead.num_samples
        begin, end = start_step * self._batch_size, min(rows, num_steps(rows, self._batch_size) * self._batch_size)
        for position, window in self._windows(begin, end):
            yield from self._pieces_of(window, position, begin, end)

    def _windows(self, begin: int, end: int) -> Iterator[tuple[int, _Window]]:
        """The windows that hold the positions `begin` to `end` of the epoch, each with the position of its first row."""
        windows = self._lead.joined.paging.windows(self._epoch, self._seed)
        borders = np.cumsum([0, *(self._num_trained(pages) for pages in windows)]).tolist()
        needed = [number for number, (low, high) in enumerate(pairwise(borders)) if max(low, begin) < min(high, end)]
        if not needed:
            return
        contents: Iterator[Columns] = iter([{}])
        if isinstance(self._split, StreamedSplit):
            contents = read_windows([windows[number] for number in needed], self._read)
        for columns, number in zip(contents, needed, strict=True):
            yield borders[number], self._window(windows[number], columns)

    def _num_trained(self, pages: Sequence[range]) -> int:
        return sum(int(self._lead.is_trained[page.start : page.stop].sum()) for page in pages)

    def _window(self, pages: Sequence[range], columns: Columns) -> _Window:
        rows, store = window_rows(pages), self._lead.store
        places = np.flatnonzero(self._lead.is_trained[rows])
        order = torch.from_numpy(places[window_order(rows[places], self._epoch, self._seed)])
        there = self._lead.resident
        images = torch.from_numpy(columns[_IMAGES]) if there is None else there.images
        plan = plan_view(self._split, store.views, self._view, rows=rows, row_order=store.row_order)
        return _Window(rows, order, images, columns, plan)

    def _read(self, page: range) -> Columns:
        assert isinstance(self._split, StreamedSplit), "the other kind is in memory"
        columns = {_IMAGES: self._split.read(page)}
        for labels in self._labels.values():
            columns |= labels.read(page)
        return columns

    def _pieces_of(self, window: _Window, position: int, begin: int, end: int) -> Iterator[_Piece]:
        """A window's pieces, cut where batches end. Decoding begins anew at fixed positions and at a window's first row, so
        that a run that was resumed decodes what an uninterrupted one did."""
        last, size = position + len(window.order), self._batch_size
        for start in range(position // self._decoded * self._decoded, min(last, end), self._decoded):
            low, high = max(start, position), min(start + self._decoded, last)
            if high <= begin:
                continue
            places = window.order[low - position : high - position][self._are_own(low, high)]
            targets = self._targets(window, places)
            for first in range(max(low // size * size, begin), min(high, end), size):
                within = self._own_before(max(first, low)), self._own_before(min(first + size, high, end))
                some = slice(*(number - self._own_before(low) for number in within))
                if some.start < some.stop:
                    yield self._piece(window, places[some], [None if t is None else t[some] for t in targets])

    def _are_own(self, low: int, high: int) -> Bool[torch.Tensor, " positions"]:
        """Which of the positions from `low` to `high` in the epoch are in the own share of their batch."""
        places = np.arange(low, high) % self._batch_size
        return torch.from_numpy((places >= self._own.start) & (places < self._own.stop))

    def _own_before(self, position: int) -> int:
        """How many positions before this one are."""
        batch, place = divmod(position, self._batch_size)
        return int(batch * self.num_own + min(max(place - self._own.start, 0), self.num_own))

    def _piece(self, window: _Window, places: Int64[torch.Tensor, " piece"], targets: Sequence[Targets]) -> _Piece:
        hard_labels = self._split.hard_labels[torch.from_numpy(window.rows)[places]]
        partners, shares = window.plan.partner_labels(places), window.plan.own_shares(places)
        return _Piece(window.render(places), hard_labels, partners, shares, targets)

    def _targets(self, window: _Window, places: Int64[torch.Tensor, " some"]) -> list[Targets]:
        """Each student's soft targets of some places."""
        decoded: dict[tuple[str, float, torch.device], Targets] = {}
        targets: list[Targets] = []
        for views in self._several:
            if views.temperature is None:
                targets.append(None)
                continue
            key = (views.store.location, views.temperature, views.device)
            if key not in decoded:
                stored = self._labels[views.store.location].of(window.rows, window.columns, places)
                there = {name: values.to(views.device, non_blocking=True) for name, values in stored.items()}
                decoded[key] = views.store.codec.targets(there, views.temperature)
            targets.append(decoded[key])
        return targets


def _join(pieces: Sequence[_Piece]) -> _Piece:
    """Pieces that make a batch."""
    if len(pieces) == 1:
        return pieces[0]
    return _Piece(
        torch.cat([piece.images for piece in pieces]),
        torch.cat([piece.hard_labels for piece in pieces]),
        _join_tensors([piece.partner_labels for piece in pieces]),
        _join_tensors([piece.own_shares for piece in pieces]),
        [_join_targets(parts) for parts in zip(*(piece.targets for piece in pieces), strict=True)],
    )


def _join_targets(parts: Sequence[Targets]) -> Targets:
    sparse = [part for part in parts if isinstance(part, SparseTargets)]
    if not sparse:
        return _join_tensors([part for part in parts if not isinstance(part, SparseTargets)])
    return SparseTargets(
        torch.cat([part.classes for part in sparse]),
        torch.cat([part.log_probs for part in sparse]),
        _join_tensors([part.log_rest for part in sparse]),
    )


def _join_tensors(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """Of tensors that either all are there or all are not."""
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None


def _first_difference(stored: list[str], wanted: list[str]) -> tuple[str, str]:
    if len(stored) != len(wanted):
        return f"labels of {len(stored)} classes", f"{len(wanted)} classes"
    number = next(i for i, pair in enumerate(zip(stored, wanted, strict=True)) if pair[0] != pair[1])
    return f"class {number} is {stored[number]!r}", repr(wanted[number])
