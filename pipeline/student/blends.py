"""Hard labels and soft targets in one: a loss whose part that does not depend on the student is
worked out before the step.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pipeline.data.hard_labels import is_labelled
from pipeline.signals import HardLabels, SignalKind
from pipeline.training.hard_labels import Partners

ClassWeights = Float[Tensor, " known_classes"] | None


@dataclass(frozen=True)
class Term(ABC):
    """A cross-entropy with the outputs of a student at one temperature, whatever its targets."""

    @abstractmethod
    def total(self, outputs: Float[Tensor, "labels classes"]) -> Float[Tensor, ""]:
        """Returns the sum over the labels, in nats."""

    @abstractmethod
    def times(self, factor: float | Float[Tensor, "labels 1"]) -> "Term":
        """Returns this term times a factor."""

    @abstractmethod
    def plus(self, other: "Term") -> "Term":
        """Returns the sum of two terms at one temperature as one term."""

    def __getitem__(self, labels: slice) -> "Term":
        """Returns some of the labels."""
        return replace(self, **{field.name: getattr(self, field.name)[labels] for field in fields(self)})


@dataclass(frozen=True)
class OfClasses(Term):
    """A term of one class of several: the sum of slope * log_softmax(outputs)."""

    slopes: Float[Tensor, "labels classes"]

    def total(self, outputs: Tensor) -> Tensor:
        log_probs = torch.log_softmax(outputs, dim=1)
        return torch.dot(self.slopes.flatten().to(log_probs.dtype), log_probs.flatten())

    def times(self, factor: float | Tensor) -> "OfClasses":
        return OfClasses(self.slopes * factor)

    def plus(self, other: Term) -> "OfClasses":
        assert isinstance(other, OfClasses), "targets of one signal"
        return OfClasses(self.slopes + other.slopes)


@dataclass(frozen=True)
class OfOdds(Term):
    """A term of independent classes: the sum of weight * the cross-entropy with a probability."""

    weights: Float[Tensor, "labels classes"]
    probs: Float[Tensor, "labels classes"]

    def total(self, outputs: Tensor) -> Tensor:
        probs, weights = self.probs.to(outputs.dtype), self.weights.to(outputs.dtype)
        return F.binary_cross_entropy_with_logits(outputs, probs, weights, reduction="sum")

    def times(self, factor: float | Tensor) -> "OfOdds":
        return OfOdds(self.weights * factor, self.probs)

    def plus(self, other: Term) -> "OfOdds":
        assert isinstance(other, OfOdds), "targets of one signal"
        weights = self.weights + other.weights
        mean = (self.weights * self.probs + other.weights * other.probs) / torch.where(weights > 0, weights, 1.0)
        return OfOdds(weights, mean)


@dataclass(frozen=True)
class Blend:
    """The targets of a batch as a sum of terms, one a temperature, and of constants, one a label.

    Cross-entropies and divergences from given targets are of this form. What does not depend on
    the student is worked out for many batches at once, so a step costs about what it does with
    hard labels.
    """

    terms: Mapping[float, Term]
    constants: Float[Tensor, " labels"]

    def __getitem__(self, labels: slice) -> "Blend":
        """Returns some of the labels."""
        return Blend({temperature: term[labels] for temperature, term in self.terms.items()}, self.constants[labels])

    def mean_loss(self, logits: Float[Tensor, "labels classes"]) -> Float[Tensor, ""]:
        """Returns the mean loss of the labels, in nats."""
        total = self.constants.sum()
        for temperature, term in self.terms.items():
            total = total + term.total(logits if temperature == 1 else logits / temperature)
        return total / len(logits)

    def times(self, factor: float) -> "Blend":
        """Returns the targets of this loss times a factor."""
        terms = {temperature: term.times(factor) for temperature, term in self.terms.items()}
        return Blend(terms, self.constants * factor)

    def plus(self, temperature: float, term: Term) -> "Blend":
        """Returns the targets of this loss plus a term."""
        there = self.terms.get(temperature)
        return replace(self, terms={**self.terms, temperature: term if there is None else there.plus(term)})

    @classmethod
    def join(cls, parts: Sequence["Blend"]) -> "Blend":
        """Returns consecutive parts as one."""

        def joined(terms: Sequence[Term]) -> Term:
            names = [field.name for field in fields(terms[0])]
            return replace(terms[0], **{name: torch.cat([getattr(term, name) for term in terms]) for name in names})

        terms = {temperature: joined([part.terms[temperature] for part in parts]) for temperature in parts[0].terms}
        return cls(terms, torch.cat([part.constants for part in parts]))


@dataclass(frozen=True)
class HardTerms:
    """The maker of terms of hard labels, which are those of `mixed_cross_entropy`."""

    kind: SignalKind
    num_classes: int
    device: torch.device
    label_smoothing: float
    weights: ClassWeights

    def term(self, hard_labels: HardLabels, partners: Partners | None) -> Term:
        """Returns the term of views; 0 for one that is mixed with a view without a label."""
        own = self._plain(hard_labels)
        if partners is None:
            return own
        both = (is_labelled(hard_labels) & is_labelled(partners[0])).to(self.device, non_blocking=True)
        shares = partners[1].to(self.device, non_blocking=True)
        others = self._plain(partners[0]).times((both * (1 - shares))[:, None])
        return own.times((both * shares)[:, None]).plus(others)

    def _plain(self, hard_labels: HardLabels) -> Term:
        labels = hard_labels.to(self.device, non_blocking=True)
        return self._of_odds(labels) if self.kind == "binary" else self._of_classes(labels)

    def _of_classes(self, labels: Tensor) -> OfClasses:
        known = (labels >= 0) * (-1.0 if self.weights is None else -self.weights[labels])
        every = (known * (self.label_smoothing / self.num_classes))[:, None].repeat(1, self.num_classes)
        return OfClasses(
            every.scatter_add_(1, labels.clamp(min=0)[:, None], (known * (1 - self.label_smoothing))[:, None])
        )

    def _of_odds(self, labels: Tensor) -> OfOdds:
        yes = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        weighted = yes if self.weights is None else yes * self.weights
        return OfOdds((weighted + 1 - yes) * (labels >= 0), weighted / (weighted + 1 - yes))
