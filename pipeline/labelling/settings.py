"""The section `dump_labels` of params.yaml."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.labels.encodings import LabelSpace
from pipeline.models.devices import DeviceName, Precision
from pipeline.views import ViewSpec


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DumpLabels:
    """What the teacher labels, and what all stores have in common."""

    num_views: PositiveInt
    temperature: PositiveFloat
    temperatures: Annotated[list[PositiveFloat], Field(min_length=1)]
    pilot_labels: PositiveInt
    batch_size: PositiveInt
    block_samples: PositiveInt
    num_canaries: PositiveInt
    device: DeviceName
    precision: Precision
    compile: bool
    memory_budget_mb: PositiveInt
    views: ViewSpec

    def check(self, where: str) -> None:
        """Raises ConfigError where temperatures are not each there once, or the stored one is not among them."""
        declared = [f"{temperature:g}" for temperature in self.temperatures]
        if len(set(declared)) < len(declared):
            raise ConfigError(f"{where}.temperatures", str(self.temperatures), expected="each once (to 6 digits)")
        if self.temperature not in self.temperatures:
            stored = f"dump_labels.temperature, {self.temperature:g}, among them"
            raise ConfigError(f"{where}.temperatures", str(self.temperatures), expected=stored)

    def space(self, num_classes: int) -> LabelSpace:
        """What labels of so many classes have in common."""
        return LabelSpace(num_classes, self.temperature, tuple(self.temperatures))
