"""A student's batch: views with their soft targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float

from pipeline.labels.position_targets import PositionTargets
from pipeline.labels.targets import SparseTargets
from pipeline.student.blends import Blend
from pipeline.student.position_blends import PositionBlend
from pipeline.training.batches import Batch
from pipeline.training.epochs import join_tensors

Rows = Float[torch.Tensor, "_ _"] | SparseTargets
Targets = Rows | PositionTargets | Blend | PositionBlend | None
Features = Float[torch.Tensor, "_ _"] | None
#: What a student learns from beside hard labels.
Lesson = tuple[Targets, Features]


@dataclass(frozen=True)
class LabelledBatch(Batch):
    """A batch with each view's soft targets; `epoch` counts from 0.

    Students that learn from hard labels alone have no soft targets (None); `features` are the
    teacher's embeddings, where a student learns from these.
    """

    soft_targets: (
        Float[torch.Tensor, "batch classes"] | SparseTargets | PositionTargets | Blend | PositionBlend | None
    ) = None
    features: Float[torch.Tensor, "batch dimensions"] | None = None
    epoch: int = 0

    @property
    def labels(self) -> tuple[Targets | torch.Tensor, ...]:
        """The labels in the order in which a loss of the library takes them, after the logits."""
        return self.soft_targets, self.hard_labels, self.partner_labels, self.own_shares


def join_targets(parts: Sequence[Targets]) -> Targets:
    """Returns the soft targets of consecutive pieces as one; None where the pieces have none."""
    if len(parts) == 1:
        return parts[0]
    blends = [part for part in parts if isinstance(part, Blend)]
    if blends:
        return Blend.join(blends)
    of_positions = [part for part in parts if isinstance(part, PositionBlend)]
    if of_positions:
        return PositionBlend.join(of_positions)
    at_positions = [part for part in parts if isinstance(part, PositionTargets)]
    if at_positions:
        return PositionTargets.join(at_positions, _join_rows([part.rows for part in at_positions]))
    there = [part for part in parts if isinstance(part, (torch.Tensor, SparseTargets))]
    return _join_rows(there) if there else None


def _join_rows(parts: Sequence[Rows]) -> Rows:
    sparse = [part for part in parts if isinstance(part, SparseTargets)]
    if not sparse:
        return torch.cat([part for part in parts if not isinstance(part, SparseTargets)])
    return SparseTargets(
        torch.cat([part.classes for part in sparse]),
        torch.cat([part.log_probs for part in sparse]),
        join_tensors([part.log_rest for part in sparse]),
    )


def join_lessons(parts: Sequence[Lesson]) -> Lesson:
    """Returns what is learned from consecutive pieces as one."""
    return join_targets([soft for soft, _ in parts]), join_tensors([features for _, features in parts])


def cut_lesson(lesson: Lesson, rows: slice) -> Lesson:
    """Returns some rows of a lesson."""
    soft, features = lesson
    return None if soft is None else soft[rows], None if features is None else features[rows]
