"""The encoding of the likeliest of independent classes, with a learned mean for the others."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.labels.encodings.base import NO_ANCHORS, Codec, Encoding, Field, LabelSpace, smallest_unsigned
from pipeline.labels.encodings.log_odds_uint8 import FILL, OddsScale
from pipeline.labels.encodings.tail import most_likely
from pipeline.labels.targets import Detail
from pipeline.signals.binary import mean_log_odds

MEANS = "mean_log_odds"


@dataclass(frozen=True, config=STRICT)
class TopOdds(Encoding):
    """An encoding of the `k` classes of the largest log-odds; each other class has what it has on
    average where it is not among them.

    The averages are of probabilities, learned from the pilot for each class at each declared
    temperature: only these can be served.

    Error bound: that of `OddsScale` for kept classes. For the others there is none: it is measured,
    and stands in the manifest's fidelity.
    """

    k: Annotated[int, Limits(ge=1, le=10**6)]
    range_nats: Annotated[float, Limits(gt=0, le=1000)]
    steps: Annotated[int, Limits(ge=1, le=127)]

    kind: ClassVar[str] = "top_odds"
    signals = ("binary",)

    @property
    def scale(self) -> OddsScale:
        """The scale of the stored log-odds."""
        return OddsScale(self.steps, self.range_nats)

    @property
    def detail(self) -> Detail:
        return "filled tail"

    def _check_settings(self, space: LabelSpace, where: str) -> None:
        if self.k >= space.num_classes:
            most = f"at most {space.num_classes - 1} for {space.num_classes} classes"
            raise ConfigError(f"{where}.k", str(self.k), expected=most, fix="or log_odds_uint8, which has them all")

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        numbers = smallest_unsigned(space.num_classes)
        most = space.num_classes - 1
        return {
            "classes": Field((self.k,), numbers, int(np.iinfo(numbers).max), by_column=True, most=most),
            "log_odds_codes": Field((self.k,), np.dtype(np.uint8), FILL, by_column=True, most=2 * self.steps),
        }

    def tables(self, space: LabelSpace) -> dict[str, Field]:
        shape = (len(space.temperatures), space.num_classes)
        return {MEANS: Field(shape, np.dtype(np.float32), float("nan"))}

    def learn(self, values: torch.Tensor, space: LabelSpace) -> dict[str, np.ndarray]:
        others = torch.ones_like(values, dtype=torch.bool).scatter_(1, most_likely(values, self.k), False)
        means = [mean_log_odds(values * (space.temperature / t), others) for t in space.temperatures]
        return {MEANS: torch.stack(means).float().numpy()}

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        return TopOddsCodec(self, space, torch.from_numpy(tables[MEANS]))


class TopOddsCodec(Codec):
    """The codec of `TopOdds`."""

    def __init__(self, encoding: TopOdds, space: LabelSpace, means: torch.Tensor) -> None:
        super().__init__(space)
        self._k, self._scale, self._means = encoding.k, encoding.scale, means
        self._types = {name: field.torch_dtype for name, field in encoding.fields(space).items()}

    def encode(
        self,
        values: torch.Tensor,
        sample_ids: np.ndarray,
        view: int,
        anchors: Mapping[str, torch.Tensor] = NO_ANCHORS,
    ) -> dict[str, torch.Tensor]:
        classes = most_likely(values, self._k).sort(dim=1).values
        codes = self._scale.encode(values.gather(1, classes))
        return {"classes": classes.to(self._types["classes"]), "log_odds_codes": codes}

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        self.require(temperature)
        means = self._means[self.space.temperatures.index(temperature)].to(fields["classes"].device)
        kept = self._scale.decode(fields["log_odds_codes"]) * (self.space.temperature / temperature)
        return means.repeat(len(kept), 1).scatter_(1, fields["classes"].long(), kept)

    def serves(self, temperature: float) -> bool:
        return temperature in self.space.temperatures
