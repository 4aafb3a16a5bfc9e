"""Soft targets that keep a few classes only, and how much of a distribution soft targets have."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64

Detail = Literal["every class", "filled tail", "some classes", "nothing"]
"""The part of a teacher's distribution that soft targets have: each class's probability in the very
label; the same with the unlikely classes filled in from a model of how they are on average; some
classes (`SparseTargets`); or nothing."""


@dataclass(frozen=True)
class SparseTargets:
    """The teacher's distribution over some classes of each label and, in one bucket, all the
    others.

    `log_probs` and `log_rest` are normalised together: over kept classes + rest. A class of
    probability 0 (-inf) is padding, whatever number it has. `log_rest` is None where the kept
    classes hold all of the mass."""

    classes: Int64[torch.Tensor, "labels kept"]
    log_probs: Float[torch.Tensor, "labels kept"]
    log_rest: Float[torch.Tensor, " labels"] | None

    def __getitem__(self, rows: slice) -> "SparseTargets":
        """Returns some of the labels."""
        return SparseTargets(
            self.classes[rows], self.log_probs[rows], None if self.log_rest is None else self.log_rest[rows]
        )
