"""The interface of a corruption: a pure function of (image, sample id, severity, seed), whatever
the batch.
"""

import math
from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8, UInt64
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.bounds import Samples, Seed
from pipeline.core.config import STRICT
from pipeline.core.seeding import derive_seed

_VALUES_AT_ONCE = 2**20  # noise takes some 100 bytes a value while it is drawn

Batch = UInt8[torch.Tensor, "batch channels height width"]
Ids = UInt64[np.ndarray, " batch"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Robustness:
    """The severity of corruptions, and the number of images that are corrupted."""

    severity: Annotated[int, Field(ge=1, le=5)]
    num_images: Samples
    seed: Seed


class Corruption(ABC):
    """A way to make images worse, at five severities."""

    kind: ClassVar[str]
    #: The strength at each severity, in a unit of the corruption's own.
    strengths: ClassVar[tuple[float, float, float, float, float]]

    @final
    def apply(self, images: Batch, sample_ids: Ids, severity: int, seed: int) -> Batch:
        """Returns the images at severity 1 (mild) to 5; a few at a time, so that it takes little
        memory.
        """
        rows = max(1, _VALUES_AT_ONCE // math.prod(images.shape[1:]))
        key, strength = derive_seed(seed, self.kind), self.strengths[severity - 1]
        parts = zip(images.split(rows), np.split(sample_ids, range(rows, len(sample_ids), rows)), strict=True)
        return torch.cat([self._change(part, ids, strength, key) for part, ids in parts])

    @abstractmethod
    def _change(self, images: Batch, sample_ids: Ids, strength: float, seed: int) -> Batch:
        """Returns the images at one strength."""


def to_pixels(
    values: Float32[torch.Tensor, "*shape"] | Float64[torch.Tensor, "*shape"],
) -> UInt8[torch.Tensor, "*shape"]:
    """Rounds values to the nearest 8-bit pixels."""
    return values.round().clamp(0, 255).to(torch.uint8)
