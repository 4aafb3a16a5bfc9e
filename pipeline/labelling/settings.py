"""The sections `dump_labels` and `verify_labels` of params.yaml, as dumps and imports read them."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.bounds import BatchSize, MegabytesOrAuto, Samples, Seed, Temperature, Tolerance, Views
from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.data.manifest import DatasetManifest
from pipeline.labels.encodings import LabelSpace
from pipeline.models.devices import DeviceName
from pipeline.models.precision import Precision
from pipeline.signals import SignalKind
from pipeline.views.spec import ViewSpec

_OTHER_KEYS = STRICT | {"extra": "ignore"}  # the rest of a section that another command reads whole


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StoreSettings:
    """The settings that all stores of one dump or import share."""

    temperature: Temperature
    temperatures: Annotated[list[Temperature], Field(min_length=1)]
    pilot_labels: Samples
    block_samples: Samples
    num_canaries: Samples

    def check(self, where: str) -> None:
        """Raises ConfigError where a temperature is listed twice, or the stored one is not."""
        declared = [f"{temperature:g}" for temperature in self.temperatures]
        if len(set(declared)) < len(declared):
            raise ConfigError(f"{where}.temperatures", str(self.temperatures), expected="each once (to 6 digits)")
        if self.temperature not in self.temperatures:
            stored = f"dump_labels.temperature, {self.temperature:g}, among them"
            raise ConfigError(f"{where}.temperatures", str(self.temperatures), expected=stored)

    def space(self, num_classes: int, signal: SignalKind, positions: tuple[int, int] | None = None) -> LabelSpace:
        """Returns the label space of a teacher with so many classes, of a grid at each position."""
        return LabelSpace(num_classes, self.temperature, tuple(self.temperatures), signal, positions)

    def space_of(self, data: DatasetManifest) -> LabelSpace:
        """Returns the label space of a teacher of prepared data."""
        return self.space(len(data.class_names), data.signal, data.positions)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DumpLabels(StoreSettings):
    """The section `dump_labels`: the views that the teacher labels, and how it computes."""

    num_views: Views
    batch_size: BatchSize
    device: DeviceName
    precision: Precision
    compile: bool
    memory_budget_mb: MegabytesOrAuto
    views: ViewSpec


@dataclass(frozen=True, kw_only=True, config=_OTHER_KEYS)
class ImportLabels(StoreSettings):
    """The part of the section `dump_labels` that decides a store of plain views."""


@dataclass(frozen=True, kw_only=True, config=_OTHER_KEYS)
class ImportedClasses:
    """The part of the section `train_teacher` that names the classes of imported logits."""

    teacher_classes: str | list[str] | None
    class_map: dict[str, list[int | str]] | None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VerifyLabels:
    """The section `verify_labels`: how many labels are computed again, and the tolerances."""

    num_labels: Samples
    seed: Seed
    kl_tolerance_nats: Tolerance
    accuracy_tolerance: Tolerance
    batch_size: BatchSize
    device: DeviceName
