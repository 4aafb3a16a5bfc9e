"""The abstract signal: the meaning of a network's outputs, and how they are compared."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Integer

from pipeline.data.manifest import SignalKind

#: Hard labels of a split or a batch, as `data/splits.py` has them for each signal.
HardLabels = Integer[torch.Tensor, "samples ..."]
Outputs = Float[torch.Tensor, "samples classes"]


class Signal(ABC):
    """The meaning of a network's outputs. Subclasses are one file each, without state.

    Outputs are what a network gives before any softmax or sigmoid. Values are what stores hold of
    them: outputs at a temperature, brought to one form.
    """

    kind: ClassVar[SignalKind]
    #: What the outputs are, for messages.
    outputs: ClassVar[str]
    #: The smallest number of classes that there is something to tell apart of.
    least_classes: ClassVar[int]
    #: Whether an output means something without the others.
    is_independent: ClassVar[bool] = False
    #: The figure of `metrics` by which networks are compared: 0 to 1, the larger the better.
    headline: ClassVar[str]
    #: The headline in words.
    headline_words: ClassVar[str]

    @abstractmethod
    def values(self, outputs: Outputs, temperature: float) -> Outputs:
        """Returns the values of outputs at a temperature."""

    def quick_values(self, outputs: Outputs, temperature: float) -> Outputs:
        """Returns the same in the quickest way, which may round the last bits otherwise."""
        return self.values(outputs, temperature)

    @abstractmethod
    def divergence(self, values: Outputs, others: Outputs) -> Float[torch.Tensor, " samples"]:
        """Returns KL(values || others) of each sample, in nats."""

    @abstractmethod
    def mean(self, parts: Sequence[Outputs], shares: Sequence[float]) -> Outputs:
        """Returns the values of the mean of several teachers' probabilities, by their shares."""

    @abstractmethod
    def same_answer(self, values: Outputs, others: Outputs) -> Bool[torch.Tensor, " samples"]:
        """Returns whether both come to the same decision, sample by sample."""

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

    @abstractmethod
    def nll_slope(self, outputs: Outputs, hard_labels: HardLabels, inverse_temperature: float) -> float:
        """Returns the derivative of the mean NLL by the inverse temperature; it grows with it."""

    @abstractmethod
    def chance(self, outputs: Outputs, hard_labels: HardLabels) -> float:
        """Returns the headline that mere chance comes to on average, for predictions that have
        nothing to do with the labels.
        """
