"""A student's batch: views with their soft targets."""

from dataclasses import dataclass

import torch
from jaxtyping import Float

from pipeline.labels.targets import SparseTargets
from pipeline.training.batches import Batch


@dataclass(frozen=True)
class LabelledBatch(Batch):
    """With each view's soft targets (None for students that learn from hard labels alone); `epoch` counts from 0."""

    soft_targets: Float[torch.Tensor, "batch classes"] | SparseTargets | None = None
    epoch: int = 0
