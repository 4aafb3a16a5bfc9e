"""The section `verify_labels` of params.yaml."""

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.models.devices import DeviceName


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VerifyLabels:
    """How many labels are asked for again, and how far they may be off."""

    num_labels: PositiveInt
    seed: NonNegativeInt
    kl_tolerance_nats: NonNegativeFloat
    accuracy_tolerance: NonNegativeFloat
    batch_size: PositiveInt
    device: DeviceName
