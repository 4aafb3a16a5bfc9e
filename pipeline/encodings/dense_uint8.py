"""Every class's log-probability in 8 bits."""

from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass

from pipeline.config import STRICT
from pipeline.encodings.base import Encoding, Field

NUM_LEVELS = 255  # code 255 is the fill value
_TOP = NUM_LEVELS - 1


@dataclass(frozen=True, config=STRICT)
class DenseUint8(Encoding):
    """Log-probabilities as 8-bit codes on a quadratic scale: 1 byte a class.

    Code q stands for -range_nats (q / 254)^2, so that likely classes, which carry the loss, get the fine steps: near
    0 nats a step is 0.0006 nats, near -30 it is 0.3 (at the default range of 40).

    Error bound: |stored - exact| <= range_nats (q / 254^2 + 1 / (4 254^2)) at code q before renormalising; values
    below -range_nats clip to it.
    """

    range_nats: Annotated[float, Limits(gt=0, le=1000)]

    kind: ClassVar[str] = "dense_uint8"

    @cached_property
    def _levels(self) -> torch.Tensor:
        # One more entry than there are codes, for the fill value: reading it must not index out of bounds.
        codes = torch.arange(NUM_LEVELS + 1, dtype=torch.float64) / _TOP
        return (-self.range_nats * codes**2).float()

    def fields(self, num_classes: int) -> dict[str, Field]:
        return {"log_prob_codes": Field((num_classes,), np.dtype(np.uint8), NUM_LEVELS)}

    def encode(self, log_probs: torch.Tensor) -> dict[str, torch.Tensor]:
        share = (-log_probs / self.range_nats).clamp(0, 1)
        return {"log_prob_codes": (share.sqrt() * _TOP).round().to(torch.uint8)}

    def decode(self, fields: dict[str, torch.Tensor], *, stored_temperature: float, temperature: float) -> torch.Tensor:
        codes = fields["log_prob_codes"]
        scores = self._levels.to(codes.device)[codes.int()]
        return torch.log_softmax(scores * (stored_temperature / temperature), dim=1)
