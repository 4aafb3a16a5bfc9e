"""A student that learns from features, while it is trained: its embedding beside its logits."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Integer
from torch import nn

from pipeline.core.seeding import derive_seed
from pipeline.models.embedding import Embedded

_STUDENT, _PROJECTION = "student.classifier.", "projection."


class Projected(nn.Module):
    """A student with a linear projection of its embedding to the stored dimensions.

    The projection is trained, averaged and kept in checkpoints with the student, and left out when
    the student is written. In eval mode the network gives logits alone.

    Args:
        dimensions: The stored ones; None: the loss takes the embedding as it is.
    """

    def __init__(self, student: Embedded, blank: torch.Tensor, dimensions: int | None, seed: int) -> None:
        super().__init__()
        self.student = student
        self.projection: nn.Module = nn.Identity()
        if dimensions is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive_seed(seed, "projection"))
                self.projection = nn.Linear(student.size(blank), dimensions)

    def forward(
        self, pixels: Integer[torch.Tensor, "batch ..."]
    ) -> Float[torch.Tensor, "batch classes"] | tuple[torch.Tensor, torch.Tensor]:
        if not self.training:
            logits: torch.Tensor = self.student.classifier(pixels)
            return logits
        logits, embedding = self.student(pixels)
        return logits, self.projection(embedding)

    def head_for(self, head: frozenset[str]) -> frozenset[str]:
        """Returns the names here of the student's head, and those of the projection, which learns
        like it; none where nothing is treated otherwise.
        """
        own = {f"{_PROJECTION}{name}" for name, _ in self.projection.named_parameters()}
        return frozenset({f"{_STUDENT}{name}" for name in head} | own) if head else head


def own_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the student's weights without what it was trained with."""
    if not any(name.startswith(_STUDENT) for name in weights):
        return dict(weights)
    return {name.removeprefix(_STUDENT): values for name, values in weights.items() if name.startswith(_STUDENT)}
