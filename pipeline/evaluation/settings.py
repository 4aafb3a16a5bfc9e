"""The section `evaluate` of params.yaml."""

from pydantic.dataclasses import dataclass

from pipeline.core.bounds import BatchSize, Repeats
from pipeline.core.config import STRICT
from pipeline.evaluation.corruptions.base import Robustness
from pipeline.models.devices import DeviceName


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Evaluate:
    """The batches of the test split, their device and corruptions, and the timed calls."""

    batch_size: BatchSize
    device: DeviceName
    robustness: Robustness
    latency_repeats: Repeats
