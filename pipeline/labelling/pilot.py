"""The pilot: some of a dump's labels before its first block, by which encodings are chosen and from
which they learn.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64

from pipeline.core.seeding import derive_seed
from pipeline.data.splits import Split
from pipeline.labelling.first_views import FirstViews
from pipeline.labelling.teacher import Teacher, label_rows, random_rows
from pipeline.labels.encodings import LabelSpace
from pipeline.views.spec import ViewSpec


def _no_first_views(labels: np.ndarray, counts: Collection[int]) -> FirstViews:
    return FirstViews.none()


@dataclass(frozen=True)
class Pilot:
    """A few labels of a dump that has not begun.

    Attributes:
        values: At the stored temperature.
        first_views: Called with the places of some of them and numbers of first views, returns what
            their anchors would be made of; by default nothing, for stores of one view.
    """

    values: Float[torch.Tensor, "labels classes"]
    first_views: Callable[[Int64[np.ndarray, " some"], Collection[int]], FirstViews] = _no_first_views


def ask_pilot(
    teacher: Teacher, split: Split, spec: ViewSpec, views: Sequence[int], num_labels: int, space: LabelSpace
) -> Pilot:
    """Returns what the teacher predicts for about `num_labels` views, drawn at random by the seed
    of the spec.

    Blocks depend on these labels and not on each other, so that any worker may write any block.
    """
    per_view = -(-min(num_labels, len(split) * len(views)) // len(views))
    seed = derive_seed(spec.seed, "pilot")
    rows = [random_rows(seed, view, per_view, len(split)) for view in views]

    def predict(view: int, some: np.ndarray) -> torch.Tensor:
        return label_rows(teacher, split, spec, view, some)

    def first_views(labels: np.ndarray, counts: Collection[int]) -> FirstViews:
        return FirstViews.ask(np.concatenate(rows)[labels], counts, predict, space.temperature)

    signal, temperature = space.signal, space.temperature
    parts = [signal.values(predict(view, some), temperature) for view, some in zip(views, rows, strict=True)]
    return Pilot(torch.cat(parts), first_views)
