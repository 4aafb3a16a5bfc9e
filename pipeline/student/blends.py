"""Hard labels and soft targets in one: a loss that is linear in the student's log-probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Blend:
    """The targets of a batch as slopes of its loss, which is, per label and summed over
    temperatures and classes,

        constant + slope * log_softmax(logits / temperature)

    Cross-entropies and divergences from given targets are of this form. Slopes are worked out for
    many batches at once, so all that is left of them in a step is a log_softmax and a product for
    each temperature: about as much as a cross-entropy.
    """

    slopes: Mapping[float, Float[Tensor, "labels classes"]]
    constants: Float[Tensor, " labels"]

    def __getitem__(self, labels: slice) -> "Blend":
        """Returns some of the labels."""
        return Blend({each: slopes[labels] for each, slopes in self.slopes.items()}, self.constants[labels])

    def mean_loss(self, logits: Float[Tensor, "labels classes"]) -> Float[Tensor, ""]:
        """Returns the mean loss of the labels, in nats."""
        total = self.constants.sum()
        for temperature, slopes in self.slopes.items():
            log_probs = torch.log_softmax(logits if temperature == 1 else logits / temperature, dim=1)
            total = total + torch.dot(slopes.flatten().to(log_probs.dtype), log_probs.flatten())
        return total / len(logits)

    @classmethod
    def join(cls, parts: Sequence["Blend"]) -> "Blend":
        """Returns consecutive parts as one."""
        slopes = {each: torch.cat([part.slopes[each] for part in parts]) for each in parts[0].slopes}
        return cls(slopes, torch.cat([part.constants for part in parts]))
