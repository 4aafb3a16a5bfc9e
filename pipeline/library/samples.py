"""The images that labels belong to: a prepared data set's."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.library.labels import Labels
from pipeline.student.labelled_views import LabelledViews, Placement
from pipeline.views.plan import ViewPlan, plan_view


def join_prepared(folder: Path, labels: Labels, temperature: float | None, budget: MemoryBudget) -> LabelledViews:
    """Returns the training split of a prepared data set, checked against the labels: the classes,
    the samples, and that views are those that the teacher saw.

    It is in memory where it takes at most three quarters of the budget, else on disk.

    Raises:
        DataError: The folder holds no prepared data set, or it is damaged.
        StoreError: The labels are for other data, lack some of the samples, or can't serve the
            temperature.
        ConfigError: The budget is too small.
    """
    dataset = ImageDataset(folder)
    in_memory = budget.holds(dataset.manifest, "train")
    split = dataset.split("train") if in_memory else dataset.stream("train")
    at = labels.temperature if temperature is None else temperature
    return LabelledViews(split, labels.store, dataset.manifest.class_names, at, Placement(budget=budget))


class PreparedSamples:
    """The training split of a prepared data set, with which a store's views are made again."""

    def __init__(self, joined: LabelledViews) -> None:
        self._split, self._spec, self._row_order = joined.split, joined.store.views, joined.row_order
        self._partners: tuple[int, torch.Tensor] | None = None

    def __len__(self) -> int:
        return len(self._split)

    def plan(self, rows: Int64[np.ndarray, " rows"], view: int) -> ViewPlan:
        """Returns the plan of a view of some rows, in any order."""
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
