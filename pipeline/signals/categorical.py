"""The signal of one class of several: a softmax over the outputs."""

import math
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Bool, Float, Float64

from pipeline.data.splits import HardLabels
from pipeline.signals.base import Outputs, Signal
from pipeline.signals.losses import cross_entropy, log_normalise
from pipeline.signals.metrics import accuracy, agreement, classification_metrics, kl_to_teacher_of_each, mean_by_chance
from pipeline.signals.pieces import by_pieces


@final
class Categorical(Signal):
    """The signal of one class of several. Values are normalised log-probabilities; a hard label is
    the number of a class, -1 for none.
    """

    kind = "categorical"
    outputs = "logits"
    answer = "top-1 class"
    least_classes = 2
    headline, headline_words = "accuracy", "accuracy"

    def values(self, outputs: Outputs, temperature: float) -> Outputs:
        return torch.log_softmax(outputs / temperature, dim=1)

    def quick_values(self, outputs: Outputs, temperature: float) -> Outputs:
        return log_normalise(outputs / temperature)

    def divergence(self, values: Outputs, others: Outputs) -> Float[torch.Tensor, " samples"]:
        return (values.exp() * (values - log_normalise(others))).sum(dim=1)

    def same_answer(self, values: Outputs, others: Outputs) -> Bool[torch.Tensor, " samples"]:
        return values.argmax(dim=1) == others.argmax(dim=1)

    def probs(self, values: Outputs) -> Outputs:
        return values.exp()

    def mean(self, parts: Sequence[Outputs], shares: Sequence[float]) -> Outputs:
        weighted = [math.log(share) + part for part, share in zip(parts, shares, strict=True)]
        return torch.logsumexp(torch.stack(weighted), dim=0)

    def agreement(self, outputs: Outputs, others: Outputs) -> float:
        return agreement(outputs, others)

    def kl_of_each(self, outputs: Outputs, others: Outputs) -> Float64[torch.Tensor, " samples"]:
        return kl_to_teacher_of_each(outputs, others)

    def hard_loss(
        self,
        outputs: Outputs,
        hard_labels: HardLabels,
        label_smoothing: float,
        weights: Float[torch.Tensor, " known_classes"] | None = None,
    ) -> Float[torch.Tensor, " samples"]:
        losses = cross_entropy(outputs, hard_labels, label_smoothing=label_smoothing)
        return losses if weights is None else losses * weights[hard_labels]  # 0 without a label (-1)

    def class_counts(self, hard_labels: HardLabels) -> Float[torch.Tensor, " known_classes"]:
        return torch.bincount(hard_labels[hard_labels >= 0]).double()

    def metrics(self, outputs: Outputs, hard_labels: HardLabels) -> dict[str, float]:
        return classification_metrics(outputs, hard_labels)

    def score(self, outputs: Outputs, hard_labels: HardLabels) -> float:
        return accuracy(outputs, hard_labels)

    def nll_slope(self, outputs: Outputs, hard_labels: HardLabels, inverse_temperature: float) -> float:
        at_label = outputs.gather(1, hard_labels[:, None]).double().mean()

        def expected(some: torch.Tensor) -> torch.Tensor:
            scores = some.double()
            return (torch.softmax(scores * inverse_temperature, dim=1) * scores).sum(dim=1)

        return float(by_pieces(expected, outputs).mean() - at_label)

    def chance(self, outputs: Outputs, hard_labels: HardLabels) -> float:
        return mean_by_chance(outputs, hard_labels)

    def guess(self, hard_labels: HardLabels) -> float:
        return torch.bincount(hard_labels).max().item() / len(hard_labels)


CATEGORICAL = Categorical()
