"""Numbers of params.yaml, each with both of its bounds.

A type alone allows 10^30 epochs, whose only answer is a traceback or a run without an end. Each
bound lies far above what serves anybody, and below what overflows. A setting of a kind that is not
here has its own bounds where it stands; no number has none.
"""

import math
from typing import Annotated, Literal

from pydantic import Field, PlainValidator
from pydantic_core import PydanticCustomError

from pipeline.core.errors import ConfigError

_LARGEST = 2**64  # whole numbers of more than 64 bits overflow wherever they are used
COLDEST, HOTTEST = 0.001, 1000
HEAVIEST = 10**6
MOST_MEGABYTES = 10**9

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Samples = Annotated[int, Field(gt=0, le=10**9)]
BatchSize = Annotated[int, Field(gt=0, le=10**6)]
Repeats = Annotated[int, Field(gt=0, le=10**6)]
Epochs = Annotated[int, Field(gt=0, le=10**6)]
Views = Annotated[int, Field(gt=0, le=10**5)]
Megabytes = Annotated[int, Field(gt=0, le=MOST_MEGABYTES)]
Pixels = Annotated[int, Field(gt=0, le=65_535)]  # of a side: a JPEG has no more
Layers = Annotated[int, Field(gt=0, le=1000)]
Channels = Annotated[int, Field(gt=0, le=65_536)]  # of a layer
Temperature = Annotated[float, Field(gt=0, ge=COLDEST, le=HOTTEST)]
Weight = Annotated[float, Field(ge=0, le=HEAVIEST)]  # of a part of a loss
PositiveWeight = Annotated[float, Field(gt=0, le=HEAVIEST)]
Tolerance = Annotated[float, Field(ge=0, le=10**6)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelow1 = Annotated[float, Field(ge=0, lt=1)]


def _megabytes_or_auto(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_MEGABYTES):
        return value
    raise PydanticCustomError("megabytes", f"a whole number from 1 to {MOST_MEGABYTES:,}, or auto")


MegabytesOrAuto = Annotated[Megabytes | Literal["auto"], PlainValidator(_megabytes_or_auto)]


def check_numbers(node: object, where: str) -> None:
    """Raises ConfigError where a number is none (NaN), infinite or of more than 64 bits.

    It looks into maps and lists, at what no type describes, too (`model_settings`).
    """
    if isinstance(node, dict):
        for key, value in node.items():
            check_numbers(value, f"{where}.{key}")
    elif isinstance(node, list | tuple):
        for place, value in enumerate(node):
            check_numbers(value, f"{where}.{place}")
    elif isinstance(node, float) and not math.isfinite(node):
        raise ConfigError(where, f"{node} (float)", expected="a finite number")
    elif isinstance(node, int) and not -_LARGEST < node < _LARGEST:
        raise ConfigError(where, f"a number of {node.bit_length()} bits", expected="at most 64 bits")
