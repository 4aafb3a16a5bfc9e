"""The encoding of every class's log-probability in 8 bits."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.labels.encodings.base import NO_ANCHORS, Codec, Encoding, Field, LabelSpace, LogScale
from pipeline.labels.targets import Detail
from pipeline.signals.losses import log_normalise


@dataclass(frozen=True, config=STRICT)
class DenseUint8(Encoding):
    """An encoding of log-probabilities as 8-bit codes on a quadratic scale: 1 byte a class, less on
    disk with fewer levels.

    Error bound: that of `LogScale`, before renormalising.
    """

    range_nats: Annotated[float, Limits(gt=0, le=1000)]
    levels: Annotated[int, Limits(ge=2, le=255)]

    kind: ClassVar[str] = "dense_uint8"
    fits_positions = True

    @property
    def scale(self) -> LogScale:
        return LogScale(self.levels, self.range_nats)

    @property
    def detail(self) -> Detail:
        return "every class"

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        return {"log_prob_codes": Field((space.num_classes,), self.scale.dtype, self.scale.fill_value)}

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        return DenseUint8Codec(space, self.scale)


class DenseUint8Codec(Codec):
    """The codec of `DenseUint8`."""

    def __init__(self, space: LabelSpace, scale: LogScale) -> None:
        super().__init__(space)
        self._scale = scale

    def encode(
        self,
        log_probs: torch.Tensor,
        sample_ids: np.ndarray,
        view: int,
        anchors: Mapping[str, torch.Tensor] = NO_ANCHORS,
    ) -> dict[str, torch.Tensor]:
        return {"log_prob_codes": self._scale.encode(log_probs)}

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        scores = self._scale.decode(fields["log_prob_codes"])
        ratio = self.space.temperature / temperature
        return log_normalise(scores if ratio == 1 else scores * ratio)
