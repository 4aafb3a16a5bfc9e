"""The interface of marks, and all that is found out about a network from its outputs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Integer, Shaped

from pipeline.results.evaluation import Scores
from pipeline.signals import HardLabels, Outputs, Signal
from pipeline.signals.metrics import ReliabilityBin

#: A network's outputs on the validation split, and its hard labels.
HeldOut = tuple[Float[torch.Tensor, "held_out classes"], Integer[torch.Tensor, "held_out ..."]]

#: Values of a network whose mean is its headline. Their spread is that of the headline over the
#: choice of test samples: the standard error of the mean of so many independent values is that of
#: the headline. So the differences of two networks' values have the mean and the error of a gain.
Evidence = Shaped[torch.Tensor, " values"]


@dataclass(frozen=True)
class Marked:
    """The marks of a network.

    Attributes:
        answers: The answers on each test sample, by the names under which they are stored.
        bins: How often the network is right where it is so sure.
        confusions: The number of samples, or positions, of each class that were taken for each:
            (actual, predicted, count), where there are any.
    """

    scores: Scores
    answers: Mapping[str, torch.Tensor]
    evidence: Evidence
    bins: Sequence[ReliabilityBin]
    confusions: Sequence[tuple[int, int, int]]


class Marks(ABC):
    """The figures that networks of a signal have. Subclasses are one file each, without state."""

    signal: ClassVar[Signal]
    #: The name of the headline, where it is not the signal's.
    headline: ClassVar[str | None] = None
    #: Whether `mark` needs the outputs on the validation split.
    needs_validation: ClassVar[bool] = False
    #: Whether a sample has outputs at positions, which may be large.
    has_positions: ClassVar[bool] = False

    @abstractmethod
    def mark(
        self,
        outputs: Outputs,
        hard_labels: HardLabels,
        teacher_outputs: Outputs | None,
        validation: HeldOut | None,
    ) -> Marked:
        """Returns the marks of a network on the test split.

        Args:
            teacher_outputs: None for the teacher itself and where there is none.
            validation: The outputs on the validation split and its hard labels, where they are
                needed.
        """

    @abstractmethod
    def class_counts(self, hard_labels: HardLabels, num_classes: int) -> list[int]:
        """Returns the number of samples of each class."""

    @property
    def headline_name(self) -> str:
        """The name of the figure by which networks are compared."""
        return self.headline or self.signal.headline

    def score(self, outputs: Outputs, hard_labels: HardLabels) -> float:
        """Returns the headline, 0 to 1."""
        return self.signal.score(outputs, hard_labels)

    def known_counts(self, hard_labels: HardLabels) -> list[int] | None:
        """Returns the number of samples of which it is known whether they are of each class; None
        where classes exclude each other.
        """
        return None

    def position_counts(self, hard_labels: HardLabels, num_classes: int) -> list[int] | None:
        """Returns the number of positions of each class; None where a sample has no positions."""
        return None

    def best_epoch(self, outputs: Outputs, hard_labels: HardLabels) -> dict[str, float | None]:
        """Returns the accuracy and the headline, where that is another figure, of a network as it
        was at its best epoch.
        """
        found, name = self.signal.metrics(outputs, hard_labels), self.signal.headline
        headline = None if name == "accuracy" else found[name]
        return {"accuracy_best": found["accuracy"], "headline_best": headline}
