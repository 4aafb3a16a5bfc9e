"""The encoding of every class's log-probability or log-odds in 16 bits."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.labels.encodings.base import NO_ANCHORS, Codec, Encoding, Field, LabelSpace
from pipeline.labels.targets import Detail
from pipeline.signals import StoredKind

LOWEST = -65504.0
_FIELD: dict[StoredKind, str] = {"categorical": "log_probs", "binary": "log_odds"}


@dataclass(frozen=True, config=STRICT)
class DenseFloat16(Encoding):
    """An encoding of values as IEEE half precision, 2 bytes a class: log-probabilities, or the
    log-odds of independent classes.

    Error bound: |stored - exact| <= 2^-11 |exact| + 2^-25 before renormalising, up to 65,504
    nats, where it clips."""

    kind: ClassVar[str] = "dense_float16"
    fits_positions = True
    signals = ("categorical", "binary")

    @property
    def detail(self) -> Detail:
        return "every class"

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        return {_FIELD[space.signal_kind]: Field((space.num_classes,), np.dtype(np.float16), float("nan"))}

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
        return {_FIELD[self.space.signal_kind]: log_probs.clamp(LOWEST, -LOWEST).half()}

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        scores = fields[_FIELD[self.space.signal_kind]].float()
        return self.space.signal.quick_values(scores * (self.space.temperature / temperature), 1.0)
