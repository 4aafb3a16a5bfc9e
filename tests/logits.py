"""Logits of a student and of a teacher for tests of losses: three fixed examples, and random
ones."""

import numpy as np
import torch

#: The examples that the golden values in the losses' docstrings belong to.
STUDENT = torch.tensor([[2, -1, 0.5, 0], [0.3, 1.2, -0.7, 2.2], [-1.5, 0, 3, 1]], dtype=torch.float64)
TEACHER = torch.tensor([[4, -2, 1, 0.5], [1, 0, -1, 5], [0, -0.5, 2, 3]], dtype=torch.float64)
HARD_LABELS = torch.tensor([0, 3, 2])


def random_logits(seed: int, batch: int, classes: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits of a student and of a teacher, float64, normally distributed with this
    scale."""
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(0, scale, (2, batch, classes))
    return torch.from_numpy(student), torch.from_numpy(teacher)
