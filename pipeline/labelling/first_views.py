"""The mean of what the teacher predicts for samples' first views, and anchors made of it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64

from pipeline.labels.encodings import Codec
from pipeline.labels.fields import Labels, pieces
from pipeline.signals.losses import log_normalise

_COUNTS = (2, 4, 8)  # each view costs a prediction for every sample that is measured

Predict = Callable[[int, Int64[np.ndarray, " rows"]], Float[torch.Tensor, "rows classes"]]


class MeanPrediction:
    """The normalised geometric mean of a teacher's predictions for several views of some rows, at
    one temperature.
    """

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._total = torch.empty(0)
        self._count = 0

    def add(self, logits: Float[torch.Tensor, "rows classes"]) -> None:
        """Takes the logits of one more view."""
        if self._count == 0:
            self._total = torch.zeros_like(logits)
        for rows in pieces(logits):
            self._total[rows] += log_normalise(logits[rows] / self._temperature)
        self._count += 1

    def log_probs(self) -> Float[torch.Tensor, "rows classes"]:
        """Returns the mean of the views so far, on the device of their logits."""
        mean = torch.empty_like(self._total)
        for rows in pieces(mean):
            mean[rows] = log_normalise(self._total[rows] / self._count)
        return mean


@dataclass(frozen=True)
class FirstViews:
    """The mean predictions that anchors of some labels' samples are made of.

    Attributes:
        means: Those of each sample, once, by the number of first views.
        samples: The place of each label's sample among them.
    """

    means: Mapping[int, Float[torch.Tensor, "samples classes"]]
    samples: Int64[torch.Tensor, " labels"]

    @classmethod
    def ask(
        cls, rows: Int64[np.ndarray, " labels"], counts: Collection[int], predict: Predict, temperature: float
    ) -> "FirstViews":
        """Returns the means of some labels' samples, each of which is asked for once.

        Args:
            counts: The numbers of first views.
            predict: Called with a view and rows in ascending order, returns their logits.
        """
        distinct, places = np.unique(rows, return_inverse=True)
        mean, means = MeanPrediction(temperature), {}
        for view in range(max(counts, default=0)):
            mean.add(predict(view, distinct))
            if view + 1 in counts:
                means[view + 1] = mean.log_probs()
        return cls(means, torch.from_numpy(places))

    @classmethod
    def none(cls) -> "FirstViews":
        """Returns what there is where no encoding has anchors."""
        return cls({}, torch.empty(0, dtype=torch.int64))

    def of_labels(self, count: int) -> Float[torch.Tensor, "labels classes"]:
        """Returns the mean of so many first views for each label."""
        return self.means[count][self.samples]

    def take(self, labels: Int64[np.ndarray, " some"], counts: Collection[int]) -> "FirstViews":
        """Returns the means of some labels' samples, of so many first views."""
        distinct, samples = self.samples[torch.from_numpy(labels)].unique(return_inverse=True)
        return FirstViews({count: self.means[count][distinct] for count in counts}, samples)


def counts_to_try(views: Collection[int]) -> list[int]:
    """Returns the numbers of first views that anchors are tried of: as far as these are among a
    store's views.
    """
    return [count for count in _COUNTS if {*range(count)} <= {*views}]


def make_anchors(codec: Codec, mean_log_probs: Float[torch.Tensor, "rows classes *grid"]) -> Labels:
    """Returns the anchors of samples, on the CPU."""
    parts: list[Labels] = []
    for rows in pieces(mean_log_probs):
        anchors = codec.make_anchors(mean_log_probs[rows])
        parts.append({name: values.cpu() for name, values in anchors.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
