"""Every class's log-probability in 16 bits."""

from typing import ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from pipeline.config import STRICT
from pipeline.encodings.base import Encoding, Field

LOWEST = -65504.0


@dataclass(frozen=True, config=STRICT)
class DenseFloat16(Encoding):
    """Log-probabilities as IEEE half precision: 2 bytes a class.

    Error bound: |stored - exact| <= 2^-11 |exact| + 2^-25 before renormalising, down to -65,504 nats, where it clips.
    """

    kind: ClassVar[str] = "dense_float16"

    def fields(self, num_classes: int) -> dict[str, Field]:
        return {"log_probs": Field((num_classes,), np.dtype(np.float16), float("nan"))}

    def encode(self, log_probs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"log_probs": log_probs.clamp(min=LOWEST).half()}

    def decode(self, fields: dict[str, torch.Tensor], *, stored_temperature: float, temperature: float) -> torch.Tensor:
        scores = fields["log_probs"].float()
        return torch.log_softmax(scores * (stored_temperature / temperature), dim=1)
