"""The encoding of every class's log-probability in 16 bits."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.labels.encodings.base import NO_ANCHORS, Codec, Encoding, Field, LabelSpace, log_normalise
from pipeline.labels.targets import Detail

LOWEST = -65504.0


@dataclass(frozen=True, config=STRICT)
class DenseFloat16(Encoding):
    """An encoding of log-probabilities as IEEE half precision: 2 bytes a class.

    Error bound: |stored - exact| <= 2^-11 |exact| + 2^-25 before renormalising, down to -65,504
    nats, where it clips."""

    kind: ClassVar[str] = "dense_float16"

    @property
    def detail(self) -> Detail:
        return "every class"

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        return {"log_probs": Field((space.num_classes,), np.dtype(np.float16), float("nan"))}

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        return DenseFloat16Codec(space)


class DenseFloat16Codec(Codec):
    """The codec of `DenseFloat16`."""

    def encode(
        self,
        log_probs: torch.Tensor,
        sample_ids: np.ndarray,
        view: int,
        anchors: Mapping[str, torch.Tensor] = NO_ANCHORS,
    ) -> dict[str, torch.Tensor]:
        return {"log_probs": log_probs.clamp(min=LOWEST).half()}

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        scores = fields["log_probs"].float()
        return log_normalise(scores * (self.space.temperature / temperature))
