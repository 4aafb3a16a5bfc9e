"""The section `evaluate` of params.yaml."""

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.evaluation.corruptions.base import Robustness
from pipeline.models.devices import DeviceName


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Evaluate:
    """How networks are run on the test split, and timed."""

    batch_size: PositiveInt
    device: DeviceName
    robustness: Robustness
    latency_repeats: PositiveInt
