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
from pipeline.labelling.at_once import samples_at_once
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
        embeddings: Of the same views, where the teacher gives them.
        first_views: Called with the places of some of them and numbers of first views, returns what
            their anchors would be made of; by default nothing, for stores of one view.
    """

    values: Float[torch.Tensor, "labels classes *grid"]
    embeddings: Float[torch.Tensor, "labels dimensions"] | None = None
    first_views: Callable[[Int64[np.ndarray, " some"], Collection[int]], FirstViews] = _no_first_views

    def of(self, space: LabelSpace) -> Float[torch.Tensor, "labels values *grid"]:
        """Returns the values that labels of a space are made of."""
        if space.signal_kind != "vector":
            return self.values
        assert self.embeddings is not None, "the teacher was asked for them"
        return self.embeddings


def ask_pilot(
    teacher: Teacher, split: Split, spec: ViewSpec, views: Sequence[int], num_labels: int, space: LabelSpace
) -> Pilot:
    """Returns what the teacher predicts for about `num_labels` views, drawn at random by the seed
    of the spec; of a grid for as many as are labelled at once.

    Blocks depend on these labels and not on each other, so that any worker may write any block.
    """
    per_view = -(-samples_at_once(space, min(num_labels, len(split) * len(views))) // len(views))
    seed = derive_seed(spec.seed, "pilot")
    rows = [random_rows(seed, view, per_view, len(split)) for view in views]

    def predict(view: int, some: np.ndarray) -> torch.Tensor:
        return label_rows(teacher, split, spec, view, some)[:, teacher.columns(space.signal_kind)]

    def first_views(labels: np.ndarray, counts: Collection[int]) -> FirstViews:
        return FirstViews.ask(np.concatenate(rows)[labels], counts, predict, space.temperature)

    signal, temperature = space.signal, space.temperature
    outputs = [label_rows(teacher, split, spec, view, some) for view, some in zip(views, rows, strict=True)]
    own = teacher.columns(space.signal_kind)
    values = torch.cat([signal.values(part[:, own], temperature) for part in outputs])
    embeds = teacher.num_logits is not None
    embeddings = torch.cat([part[:, teacher.columns("vector")] for part in outputs]) if embeds else None
    return Pilot(values, embeddings, first_views)
