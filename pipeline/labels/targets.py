"""Soft targets that keep a few classes only, and how much of a distribution soft targets have."""

from collections.abc import Callable
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
        return self._each(lambda values: values[rows])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "SparseTargets":
        """Returns the same targets on a device."""
        return self._each(lambda values: values.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "SparseTargets":
        """Returns the same targets in memory that a GPU copies from while it computes."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "SparseTargets":
        rest = None if self.log_rest is None else change(self.log_rest)
        return SparseTargets(change(self.classes), change(self.log_probs), rest)
