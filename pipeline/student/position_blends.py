"""Soft targets at positions with all that does not depend on the student worked out before the
step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.labels.position_targets import Index, PositionTargets, at_index
from pipeline.student.blends import Blend, OfClasses
from pipeline.training.epochs import join_tensors

#: The logits of maps with the rows of a cell apart.
Strips = Float[Tensor, "labels classes cells rows width"]


@dataclass(frozen=True)
class PositionBlend:
    """The targets of positions as a sum of slope * log_softmax(outputs there), and a constant for
    each label.

    Outputs at positions are those of `PositionTargets`: of cells or of drawn positions.

    Attributes:
        factor: Of all.
        by_class: Whether each class is normalised over the positions afterwards.
    """

    slopes: Float[Tensor, "labels classes positions"]
    constants: Float[Tensor, " labels"]
    temperature: float
    stride: int
    index: Index | None
    factor: float = 1.0
    by_class: bool = False

    @classmethod
    def of(cls, targets: PositionTargets, rows: Blend) -> "PositionBlend | None":
        """Returns the blend of the means over positions, given that of a target's rows; None: it
        has terms of several temperatures.
        """
        if len(rows.terms) > 1:
            return None
        ((temperature, term),) = rows.terms.items()
        assert isinstance(term, OfClasses), "a position has one class"
        slopes = term.slopes.unflatten(0, (-1, targets.num_positions))
        constants = rows.constants.unflatten(0, (-1, targets.num_positions))
        factor = 1 / targets.num_positions
        if targets.shares is not None:
            shares, factor = targets.shares.to(slopes.dtype), 1.0
            slopes, constants = slopes * shares[:, None], constants * shares
        slopes = slopes.movedim(1, 2).contiguous()
        return cls(slopes, constants.sum(dim=1), temperature, targets.stride, targets.index, factor)

    def __getitem__(self, labels: slice) -> "PositionBlend":
        """Returns some of the labels."""
        index = None if self.index is None else self.index[labels]
        return replace(self, slopes=self.slopes[labels], constants=self.constants[labels], index=index)

    def times(self, factor: float) -> "PositionBlend":
        """Returns the targets of this loss times a factor."""
        return replace(self, factor=self.factor * factor)

    @classmethod
    def join(cls, parts: Sequence["PositionBlend"]) -> "PositionBlend":
        """Returns consecutive parts as one."""
        slopes, constants = (torch.cat([getattr(part, name) for part in parts]) for name in ("slopes", "constants"))
        return replace(parts[0], slopes=slopes, constants=constants, index=join_tensors([part.index for part in parts]))

    def strips(self, logits: Float[Tensor, "labels classes height width"]) -> Strips:
        """Returns the logits as `mean_loss` takes them.

        A loss of hard labels should start from these, too: then all gradients meet in this form,
        where that of a cell is broadcast and not written out. Networks give channels last, and
        every softmax over the classes would copy them into this order for itself.
        """
        strips: Tensor = logits.contiguous().unflatten(2, (-1, self.stride))
        return strips

    def mean_loss(self, strips: Strips) -> Float[Tensor, ""]:
        """Returns the mean loss of the labels, in nats."""
        log_probs = torch.log_softmax(self._outputs(strips), dim=1)
        if self.by_class:
            log_probs = torch.log_softmax(log_probs, dim=2)
        total = torch.dot(self.slopes.flatten().to(log_probs.dtype), log_probs.flatten())
        return (self.constants.sum() + total) * (self.factor / len(strips))

    def _outputs(self, strips: Strips) -> Float[Tensor, "labels classes positions"]:
        """Returns the outputs at the positions, at the temperature."""
        if self.index is not None:
            values, divisor = at_index(strips.flatten(2, 3), self.index), self.temperature
        elif self.stride == 1:
            values, divisor = strips.flatten(2), self.temperature
        else:  # the sum of a cell's rows first, which stand side by side
            cells = strips.sum(dim=3).unflatten(3, (-1, self.stride)).sum(dim=4)
            values, divisor = cells.flatten(2), self.temperature * self.stride**2
        return values if divisor == 1 else values / divisor
