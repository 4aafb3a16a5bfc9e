"""Views with the stored labels that belong to them, batch by batch, for one student or several.

The split may be in memory or streamed from disk.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Int64

from pipeline.core.errors import StoreError
from pipeline.data.budget import MemoryBudget
from pipeline.data.hard_labels import is_labelled
from pipeline.data.splits import Split
from pipeline.data.windows import Columns
from pipeline.labels.canaries import check_canaries
from pipeline.labels.join import JoinedStore, choose_held, read_labels
from pipeline.labels.position_targets import PositionTargets
from pipeline.labels.reader import StoreReader
from pipeline.signals import HardLabels, Signal
from pipeline.student.batches import LabelledBatch, Lesson, Targets, cut_lesson, join_lessons
from pipeline.student.shown_views import shown_view
from pipeline.training.batches import WHOLE, Batch, Share, num_steps
from pipeline.training.epochs import Epoch, Window, join_pieces
from pipeline.training.hard_labels import Partners, partners_of

# Labels are joined and decoded for many batches at once, in pieces of about this many numbers. For
# ten classes that takes a fifth of the time of decoding batch by batch, and it stays within a
# processor's cache.
_DECODED_ENTRIES = 1 << 18
_DECODED_BATCHES = 64
_CPU = torch.device("cpu")
Blending = Callable[[Targets, HardLabels, Partners | None], Targets]


@dataclass(frozen=True)
class Placement:
    """The device and the memory that a split and its labels are read with.

    Args:
        device: Soft targets are decoded and left there; they travel there as they are stored.
        budget: The memory for a split on disk; None: the split is in memory.
        resident: A copy of a split in memory that lies on a device: inputs are taken and rendered
            there. None: there is no copy.
    """

    device: torch.device = _CPU
    budget: MemoryBudget | None = None
    resident: Split | None = None


_HERE = Placement()


class LabelledViews:
    """A training split with the labels of a store, joined by sample id.

    Both are checked before the first batch. Batches are of all samples; where no soft targets are
    read, of those with a hard label.

    Args:
        temperature: The temperature of the soft targets; None: none are read.
        new_views: Epochs beyond the stored views show others, beside labels of stored ones.

    Raises:
        StoreError: The store is for other data, lacks some of the samples, was made of other views,
            or can't serve the temperature.
        ConfigError: The budget is too small to stream the split.
    """

    def __init__(
        self,
        split: Split,
        store: StoreReader,
        class_names: list[str],
        temperature: float | None,
        placement: Placement = _HERE,
        *,
        new_views: bool = False,
    ) -> None:
        if store.manifest.class_names != class_names:
            found, expected = _first_difference(store.manifest.class_names, class_names)
            raise StoreError(
                store.location, found, expected=f"{expected} (data/prepare)", fix=store.remedies.other_data
            )
        if temperature is not None:
            store.codec.require(temperature)
        self.split, self.store, self.temperature, self.device = split, store, temperature, placement.device
        self.new_views = new_views
        self.resident = split if placement.resident is None else placement.resident
        #: Whether a row of the split is trained on.
        self.is_trained: Bool[np.ndarray, " samples"] = np.ones(len(split), dtype=bool)
        if temperature is None:
            self.is_trained = is_labelled(split.hard_labels.numpy())
        self.num_samples = int(self.is_trained.sum())
        self.joined = JoinedStore(split, store, placement.budget)
        choose_held([] if temperature is None else [self.joined])
        self.row_order = store.row_order(split)
        check_canaries(store.canaries, split, store.views, store.location, self.row_order, store.remedies)
        #: The embeddings of the same views, where a student learns from these.
        self.features: JoinedStore | None = None
        #: Makes soft targets and hard labels one; None: batches carry them apart.
        self.blend: Blending | None = None

    def learn_features(self, store: StoreReader) -> None:
        """Has batches carry the embeddings of another store of the same views.

        All samples are then trained on. Raises what joining a store raises.
        """
        self.features = JoinedStore(self.split, store, self.joined.budget)
        choose_held([*([] if self.temperature is None else [self.joined]), self.features])
        self.is_trained = np.ones(len(self.split), dtype=bool)
        self.num_samples = len(self.split)

    def blended(self, blend: Blending) -> "LabelledViews":
        """Returns the same views, whose batches carry soft targets and hard labels blended."""
        views = copy(self)
        views.blend = blend
        return views

    @property
    def signal(self) -> Signal:
        """The meaning of hard labels and soft labels."""
        return self.store.manifest.space.class_signal

    def steps_per_epoch(self, batch_size: int) -> int:
        """Returns the number of batches in an epoch."""
        return num_steps(self.num_samples, batch_size)

    def batches(
        self, epoch: int, start_step: int, *, batch_size: int, seed: int, share: Share = WHOLE
    ) -> Iterator[LabelledBatch]:
        """Yields a shuffled epoch over one view with its labels; of each batch only a share.

        The views of the store are taken in turn, one an epoch; `shown_view` has the rule.
        """
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
    """Yields a shuffled epoch for several students at once: the batches that each would have alone.

    Inputs are read, rendered and moved to the device once. Soft targets of one store at one
    temperature are decoded once. All are of one split (the same object) and of the same views;
    their stores and temperatures may differ.

    Of batches of `batch_size`, only a share is rendered and decoded. Streamed data is read whole,
    because neighbours in a batch lie far apart on disk.
    """
    shared = _SharedEpoch(several, epoch, batch_size, seed, share)
    for batch, parts in join_pieces(shared.pieces(start_step), shared.num_own):
        if len(several) > 1:  # moved once for all of them; one student alone moves its own
            batch = replace(batch, inputs=batch.inputs.to(several[0].device, non_blocking=True))
        each = [join_lessons(lessons) for lessons in zip(*parts, strict=True)]
        yield tuple(
            LabelledBatch(**vars(batch), soft_targets=soft, features=features, epoch=epoch) for soft, features in each
        )


class _SharedEpoch:
    """An epoch of several students, with each one's soft targets beside its pieces."""

    def __init__(self, several: Sequence[LabelledViews], epoch: int, batch_size: int, seed: int, share: Share) -> None:
        lead = several[0]
        for views in several:
            assert views.split is lead.split, "one split"
            assert np.array_equal(views.is_trained, lead.is_trained), "the same samples"
            assert views.store.views == lead.store.views, "the same views"
            assert views.store.manifest.view_numbers == lead.store.manifest.view_numbers, "the same views"
            assert views.new_views == lead.new_views, "the same views"
            assert views.joined.paging == lead.joined.paging, "one budget"
        self._several = several
        view_index, view = shown_view(lead.store.manifest.view_numbers, epoch, new_views=lead.new_views)
        joined = [views.joined for views in several if views.temperature is not None]
        joined += [views.features for views in several if views.features is not None]
        self._labels = read_labels({each.store.location: each for each in joined}, view_index)
        most = max(views.store.encoding.num_values(views.store.manifest.space) for views in several)
        at_once = _DECODED_ENTRIES // (batch_size * most)
        #: Positions of the epoch that are decoded together: whole batches.
        self._decoded = batch_size * max(1, min(_DECODED_BATCHES, at_once))
        self._epoch = Epoch(
            lead.split,
            lead.store.views,
            view=view,
            number=epoch,
            batch_size=batch_size,
            seed=seed,
            share=share,
            paging=lead.joined.paging,
            row_order=lead.row_order,
            is_trained=lead.is_trained,
            resident=lead.resident,
            beside=self._read,
            device=lead.device,
        )
        self.num_own = self._epoch.num_own

    def _read(self, page: range) -> Columns:
        """Returns the encoded labels of a page, of the stores whose labels are not held whole."""
        columns: dict[str, np.ndarray] = {}
        for labels in self._labels.values():
            columns |= labels.read(page)
        return columns

    def pieces(self, start_step: int) -> Iterator[tuple[Batch, list[Lesson]]]:
        """Yields the pieces of every batch from a step on, with what each student learns from.

        Decoding starts again at fixed positions and at a window's first row, so a run that was
        resumed decodes the same rows together as an uninterrupted one: sums over rows of another
        number could be rounded otherwise.
        """
        window, together, taken, lessons = None, range(0), 0, list[Lesson]()
        for piece in self._epoch.pieces(start_step):
            start = piece.positions.start
            if piece.window is not window or start not in together:
                # 1. The positions that are decoded together: from the last multiple of `_decoded`,
                # cut to the window.
                window, first = piece.window, start // self._decoded * self._decoded
                bounds = window.positions
                together = range(max(first, bounds.start), min(first + self._decoded, bounds.stop))
                # 2. Their soft targets and features, of this process's share alone.
                lessons = self._lessons(window, self._epoch.own_places(window, together))
                # 3. A resumed run begins in their midst: it skips the ones before.
                taken = len(self._epoch.own_places(window, range(together.start, start)))
            # 4. Pieces come in the order of positions, so each takes the next rows.
            some = slice(taken, taken + len(piece.positions))
            taken = some.stop
            yield piece.batch, [cut_lesson(lesson, some) for lesson in lessons]

    def _lessons(self, window: Window, places: Int64[torch.Tensor, " some"]) -> list[Lesson]:
        """Returns each student's soft targets and features of some places; the same ones are
        shared.
        """
        decoded: dict[tuple[str, float, torch.device], Targets] = {}

        def read(store: StoreReader, temperature: float, device: torch.device) -> Targets:
            key = (store.location, temperature, device)
            if key not in decoded:
                stored = self._labels[store.location].of(window.rows, window.columns, places)
                # They travel as they are stored, which is less than what they decode to.
                there = {name: values.to(device, non_blocking=True) for name, values in stored.items()}
                decoded[key] = store.codec.targets(there, temperature)
            return decoded[key]

        plan, lessons = window.plan, list[Lesson]()
        for views in self._several:
            soft = None if views.temperature is None else read(views.store, views.temperature, views.device)
            if views.blend is not None and isinstance(soft, (torch.Tensor, PositionTargets)):
                partners = partners_of(plan.partner_labels(places), plan.own_shares(places))
                soft = views.blend(soft, plan.labels(places), partners)
            features = None if views.features is None else read(views.features.store, 1.0, views.device)
            assert features is None or isinstance(features, torch.Tensor), "embeddings are dense"
            lessons.append((soft, features))
        return lessons


def _first_difference(stored: list[str], wanted: list[str]) -> tuple[str, str]:
    """Returns the first difference of two lists of classes, from the side of each."""
    if len(stored) != len(wanted):
        return f"labels of {len(stored)} classes", f"{len(wanted)} classes"
    number = next(i for i, pair in enumerate(zip(stored, wanted, strict=True)) if pair[0] != pair[1])
    return f"class {number} is {stored[number]!r}", repr(wanted[number])
