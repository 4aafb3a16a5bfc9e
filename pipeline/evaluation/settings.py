"""The section `evaluate` of params.yaml."""

from pydantic.dataclasses import dataclass

from pipeline.core.bounds import BatchSize, Repeats
from pipeline.core.config import STRICT
from pipeline.evaluation.corruptions.base import Robustness
from pipeline.models.devices import DeviceName
from pipeline.results.evaluation import Headline


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Evaluate:
    """The batches of the test split, their device and corruptions, and the timed calls.

    Attributes:
        headline: `balanced` has networks compared by figures in which every class counts the same;
            None has the signal's own.
    """

    batch_size: BatchSize
    device: DeviceName
    robustness: Robustness
    latency_repeats: Repeats
    headline: Headline | None = None
