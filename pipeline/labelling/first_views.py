"""The mean of what the teacher predicts for a sample's first views, and anchors made of it."""

import torch
from jaxtyping import Float

from pipeline.labels.encodings import Codec, log_normalise
from pipeline.labels.fields import Labels, pieces


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


def make_anchors(codec: Codec, mean_log_probs: Float[torch.Tensor, "rows classes"]) -> Labels:
    """Returns the anchors of samples, on the CPU."""
    parts: list[Labels] = []
    for rows in pieces(mean_log_probs):
        anchors = codec.make_anchors(mean_log_probs[rows])
        parts.append({name: values.cpu() for name, values in anchors.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
