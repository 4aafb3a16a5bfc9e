"""The section `evaluate` of params.yaml."""

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from pipeline.config import STRICT
from pipeline.devices import DeviceName


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Evaluate:
    """How networks are run on the test split."""

    batch_size: PositiveInt
    device: DeviceName
