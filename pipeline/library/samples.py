"""The images that labels belong to: a prepared data set's, or a caller's own."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from pipeline.core.errors import StoreError
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import IMAGE, INPUT_KINDS
from pipeline.labels.canaries import check_canaries
from pipeline.library.labels import Labels
from pipeline.library.own_images import MapStyle, OwnImages, need_known_classes, read_all
from pipeline.student.labelled_views import LabelledViews, Placement
from pipeline.views.plan import ViewPlan, plan_view


def join(
    data: str | Path | MapStyle, labels: Labels, temperature: float, budget: MemoryBudget, *, in_windows: bool = True
) -> LabelledViews:
    """Returns the images, checked against the labels: the classes, the samples, and that views are
    those that the teacher saw.

    They are in memory where they take at most three quarters of the budget, else on disk.

    Args:
        data: The folder of a prepared data set, or a data set of the caller's own.
        in_windows: False: what is on disk is read row by row, so that the share of windows is for
            encoded files.

    Raises:
        DataError: There is no such data set, or it is damaged.
        StoreError: The labels are for other data, lack some of the samples, or can't serve the
            temperature.
        ConfigError: The budget is too small.
    """
    if not isinstance(data, str | Path):
        _need_images(labels)
        split = read_all(OwnImages(data), budget)
        need_known_classes(split.hard_labels, len(labels.class_names))
        return LabelledViews(split, labels.store, labels.class_names, temperature, Placement(budget=budget))
    dataset = ImageDataset(Path(data))
    in_memory = budget.holds(dataset.manifest, "train")
    kept_bytes = budget.share(dataset.manifest.bytes_each) * (1 if in_windows else 3)
    prepared = dataset.split("train") if in_memory else dataset.stream("train", kept_bytes)
    return LabelledViews(prepared, labels.store, dataset.manifest.class_names, temperature, Placement(budget=budget))


class Samples(ABC):
    """The images of a data set, of which a store's views are made again."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def plan(self, rows: Int64[np.ndarray, " rows"], view: int) -> ViewPlan:
        """Returns the plan of a view of some rows, in any order."""


class PreparedSamples(Samples):
    """The training split of a prepared data set."""

    def __init__(self, joined: LabelledViews) -> None:
        self._split, self._spec, self._row_order = joined.split, joined.store.views, joined.row_order
        self._partners: tuple[int, torch.Tensor] | None = None

    def __len__(self) -> int:
        return len(self._split)

    def plan(self, rows: Int64[np.ndarray, " rows"], view: int) -> ViewPlan:
        if not self._spec.mixes:
            return plan_view(self._split, self._spec, view, rows=rows)
        # Which images are mixed takes as long for a few rows as for all, so that is kept.
        if self._partners is None or self._partners[0] != view:
            partners = plan_view(self._split, self._spec, view, row_order=self._row_order).partner_rows
            assert partners is not None, "views are mixed"
            self._partners = view, partners
        chosen = self._partners[1][torch.from_numpy(rows)]
        ids = self._split.sample_ids
        draws, partner_draws = (self._spec.draw(ids[some], view) for some in (rows, chosen.numpy()))
        return ViewPlan(self._split, self._spec, torch.from_numpy(rows), draws, chosen, partner_draws)


class OwnSamples(Samples):
    """The images of a caller's data set, each read, and known by its pixels, when it is asked for.

    So nothing is read before the first batch; what is not in the store is found out then.

    Raises:
        StoreError: Views are mixed of two images, which must be known before; or labels are not of
            images.
    """

    def __init__(self, dataset: MapStyle, labels: Labels) -> None:
        _need_images(labels)
        if labels.view_spec.mixes:
            found = "its views are mixed of two images, and a data set of your own gives one at a time"
            raise StoreError(labels.location, found, fix="use LabelledLoader, or views without mixup and cutmix")
        self._images, self._labels = OwnImages(dataset), labels

    def __len__(self) -> int:
        return len(self._images)

    def plan(self, rows: Int64[np.ndarray, " rows"], view: int) -> ViewPlan:
        split, store = self._images.some(rows.tolist()), self._labels.store
        need_known_classes(split.hard_labels, store.manifest.num_classes)
        check_canaries(store.canaries, split, store.views, store.location, remedies=store.remedies)
        return plan_view(split, store.views, view)


def _need_images(labels: Labels) -> None:
    """Raises StoreError where labels are of texts, sounds or rows: what these mean is known from a
    prepared data set alone.
    """
    kind = INPUT_KINDS[labels.store.manifest.samples.kind]
    if kind is not IMAGE:
        found, fix = (
            f"its labels are of {kind.things}",
            "give the folder of the prepared data set, such as data/prepare",
        )
        raise StoreError(labels.location, found, expected="of images, as data sets of your own have them", fix=fix)
