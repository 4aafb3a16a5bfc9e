"""The encoding of independent classes' log-odds in 8 bits."""

from collections.abc import Mapping
from dataclasses import dataclass as plain
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.labels.encodings.base import NO_ANCHORS, Codec, Encoding, Field, LabelSpace
from pipeline.labels.targets import Detail

FILL = 255


@plain(frozen=True)
class OddsScale:
    """A scale of codes -steps to steps for log-odds, stored from 0 on: code q stands for

        sign(q) * range_nats * (q / steps)^2

    so that classes in doubt, which carry the loss, get the fine steps.

    Error bound: |stored - exact| <= range_nats (|q| / steps^2 + 1 / (4 steps^2)) at code q; values
    beyond the range clip to it. 255 is never a code: it is the fill value.
    """

    steps: int
    range_nats: float

    def encode(self, log_odds: torch.Tensor) -> torch.Tensor:
        """Returns codes from 0 to twice the steps."""
        size = (log_odds.abs() / self.range_nats).clamp(max=1).sqrt() * self.steps
        return (size.round() * log_odds.sign() + self.steps).to(torch.uint8)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Returns log-odds in float32."""
        share = (codes.float() - self.steps) * (1 / self.steps)
        return share * share.abs() * self.range_nats


@dataclass(frozen=True, config=STRICT)
class LogOddsUint8(Encoding):
    """An encoding of log-odds as 8-bit codes: 1 byte a class, less on disk with fewer steps.

    Error bound: that of `OddsScale`, at any temperature divided by it.
    """

    range_nats: Annotated[float, Limits(gt=0, le=1000)]
    steps: Annotated[int, Limits(ge=1, le=127)]

    kind: ClassVar[str] = "log_odds_uint8"
    signals = ("binary",)

    @property
    def scale(self) -> OddsScale:
        """The scale of the stored log-odds."""
        return OddsScale(self.steps, self.range_nats)

    @property
    def detail(self) -> Detail:
        return "every class"

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        return {"log_odds_codes": Field((space.num_classes,), np.dtype(np.uint8), FILL, most=2 * self.steps)}

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        return LogOddsUint8Codec(space, self.scale)


class LogOddsUint8Codec(Codec):
    """The codec of `LogOddsUint8`."""

    def __init__(self, space: LabelSpace, scale: OddsScale) -> None:
        super().__init__(space)
        self._scale = scale

    def encode(
        self,
        values: torch.Tensor,
        sample_ids: np.ndarray,
        view: int,
        anchors: Mapping[str, torch.Tensor] = NO_ANCHORS,
    ) -> dict[str, torch.Tensor]:
        return {"log_odds_codes": self._scale.encode(values)}

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        return self._scale.decode(fields["log_odds_codes"]) * (self.space.temperature / temperature)
