"""The signal of embeddings: what a network knows of a sample before its last layer."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from jaxtyping import Bool, Float

from pipeline.signals.base import Outputs, StoredSignal

#: How far labels are from the teacher, by name: |a - b|^2 / |a|^2, and 1 - cosine.
DISTANCES = ("relative_error", "cosine_distance")
_SAME = 0.01  # of the cosine distance


@final
class Vector(StoredSignal):
    """The signal of embeddings. Values are the embeddings themselves, which have no temperature;
    two are the same answer where the cosine between them is 0.99 or more.
    """

    kind = "vector"
    answer = "direction"

    def values(self, outputs: Outputs, temperature: float) -> Outputs:
        return outputs

    def divergence(self, values: Outputs, others: Outputs) -> Float[torch.Tensor, " samples"]:
        return relative_error(values, others)

    def same_answer(self, values: Outputs, others: Outputs) -> Bool[torch.Tensor, " samples"]:
        return cosine_distance(values, others) <= _SAME

    def distances(
        self, exact: Mapping[float, Outputs], decoded: Mapping[float, Outputs]
    ) -> dict[str, Float[torch.Tensor, " samples"]]:
        ((temperature, values),) = decoded.items()
        pair = exact[temperature].double(), values.double()
        return dict(zip(DISTANCES, (relative_error(*pair), cosine_distance(*pair)), strict=True))

    def distance_names(self, temperatures: Sequence[float]) -> list[str]:
        return [*DISTANCES]


def relative_error(
    vectors: Float[torch.Tensor, "samples dimensions"], others: Float[torch.Tensor, "samples dimensions"]
) -> Float[torch.Tensor, " samples"]:
    """Returns |a - b|^2 / |a|^2 of each sample; where a is 0, |b|^2."""
    error, size = (vectors - others).square().sum(dim=1), vectors.square().sum(dim=1)
    return error / torch.where(size > 0, size, 1.0)


def cosine_distance(
    vectors: Float[torch.Tensor, "samples dimensions"], others: Float[torch.Tensor, "samples dimensions"]
) -> Float[torch.Tensor, " samples"]:
    """Returns 1 - cos(a, b) of each sample, 0 to 2; 0 where both are 0, 1 where one is."""
    sizes = vectors.norm(dim=1) * others.norm(dim=1)
    both = (vectors == 0).all(dim=1) & (others == 0).all(dim=1)
    cosine = (vectors * others).sum(dim=1) / torch.where(sizes > 0, sizes, 1.0)
    return torch.where(both, 0.0, 1 - cosine).clamp(0, 2)


VECTOR = Vector()
