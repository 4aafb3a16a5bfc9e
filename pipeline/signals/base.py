"""The abstract signals: the meaning of a network's outputs, and how they are compared."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Float64

from pipeline.data.signal_kinds import SignalKind
from pipeline.data.splits import HardLabels

#: What a store may hold: the kinds of a data set's hard labels, and the teacher's embeddings.
StoredKind = SignalKind | Literal["vector"]
Outputs = Float[torch.Tensor, "samples classes *grid"]


class StoredSignal(ABC):
    """The meaning of what a store holds. Subclasses are one file each, without state.

    Outputs are what a network gives before any softmax or sigmoid. Values are what stores hold of
    them: outputs at a temperature, brought to one form.
    """

    kind: ClassVar[StoredKind]
    #: What the outputs are, for messages.
    outputs: ClassVar[str]
    #: The decision on a sample, as `same_answer` compares it.
    answer: ClassVar[str]

    @abstractmethod
    def values(self, outputs: Outputs, temperature: float) -> Outputs:
        """Returns the values of outputs at a temperature."""

    def quick_values(self, outputs: Outputs, temperature: float) -> Outputs:
        """Returns the same in the quickest way, which may round the last bits otherwise."""
        return self.values(outputs, temperature)

    @abstractmethod
    def divergence(self, values: Outputs, others: Outputs) -> Float[torch.Tensor, " samples"]:
        """Returns how far others are from values, sample by sample, 0 where they are the same."""

    @abstractmethod
    def same_answer(self, values: Outputs, others: Outputs) -> Bool[torch.Tensor, " samples"]:
        """Returns whether both come to the same decision, sample by sample."""

    def distances(
        self, exact: Mapping[float, Outputs], decoded: Mapping[float, Outputs]
    ) -> dict[str, Float[torch.Tensor, " samples"]]:
        """Returns how far decoded values are from exact ones, by the names of `distance_names`.

        Args:
            exact: By temperature, as `decoded`.
        """
        return {f"{t:g}": self.divergence(exact[t].double(), values.double()) for t, values in decoded.items()}

    def distance_names(self, temperatures: Sequence[float]) -> list[str]:
        """Returns the names of the distances that are measured for labels at some temperatures."""
        return [f"{temperature:g}" for temperature in temperatures]


class Signal(StoredSignal):
    """The meaning of a classifier's outputs, which hard labels are compared with."""

    kind: ClassVar[SignalKind]
    #: The smallest number of classes that there is something to tell apart of.
    least_classes: ClassVar[int]
    #: Whether an output means something without the others.
    is_independent: ClassVar[bool] = False
    #: The figure of `metrics` by which networks are compared: 0 to 1, the larger the better.
    headline: ClassVar[str]
    #: The headline in words.
    headline_words: ClassVar[str]

    @abstractmethod
    def probs(self, values: Outputs) -> Outputs:
        """Returns the probability of each class, for values."""

    @abstractmethod
    def mean(self, parts: Sequence[Outputs], shares: Sequence[float]) -> Outputs:
        """Returns the values of the mean of several teachers' probabilities, by their shares."""

    @abstractmethod
    def agreement(self, outputs: Outputs, others: Outputs) -> float:
        """Returns the share of decisions that both come to alike, 0 to 1."""

    @abstractmethod
    def kl_of_each(self, outputs: Outputs, others: Outputs) -> Float64[torch.Tensor, " samples"]:
        """Returns KL(others || outputs) of each sample at temperature 1, in nats."""

    @abstractmethod
    def hard_loss(
        self,
        outputs: Outputs,
        hard_labels: HardLabels,
        label_smoothing: float,
        weights: Float[torch.Tensor, " known_classes"] | None = None,
    ) -> Float[torch.Tensor, " samples"]:
        """Returns the loss of each sample against its hard label, in nats; 0 without one.

        Args:
            weights: Of the classes, as `class_weights` has them.
        """

    @abstractmethod
    def class_counts(self, hard_labels: HardLabels) -> Float[torch.Tensor, " known_classes"]:
        """Returns the number of samples of each class, in float64, up to the last that has any."""

    @abstractmethod
    def metrics(self, outputs: Outputs, hard_labels: HardLabels) -> dict[str, float]:
        """Returns the figures of a network by name, the headline first; `accuracy`, `nll` (nats)
        and `ece` are among them.
        """

    def score(self, outputs: Outputs, hard_labels: HardLabels) -> float:
        """Returns the headline of `metrics` alone."""
        return self.metrics(outputs, hard_labels)[self.headline]

    @abstractmethod
    def nll_slope(self, outputs: Outputs, hard_labels: HardLabels, inverse_temperature: float) -> float:
        """Returns the derivative of the mean NLL by the inverse temperature; it grows with it."""

    @abstractmethod
    def chance(self, outputs: Outputs, hard_labels: HardLabels) -> float:
        """Returns the headline that mere chance comes to on average, for predictions that have
        nothing to do with the labels.
        """

    @abstractmethod
    def guess(self, hard_labels: HardLabels) -> float:
        """Returns the headline that predictions can come to without a look at the samples."""
