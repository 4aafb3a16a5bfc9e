"""The section `export` of params.yaml."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.bounds import Repeats, Samples, Tolerance
from pipeline.core.config import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Export:
    """The settings of an export: the forms that a student is written in, and their tolerances.

    `logit_tolerance` is between float32 here and in torch, as a share of the logits' spread: more
    is an error. Layers stay in float32 until int8 loses at most `max_int8_drop_points` of accuracy
    on `num_checked_images` validation images; the file is left out where that takes longer than
    `int8_seconds`. `reduce_range` leaves int8 weights 7 bits, for x86 processors without VNNI;
    None: where that is nearer to float32 on this one.
    """

    num_calibration_images: Samples
    num_checked_images: Samples
    logit_tolerance: Annotated[float, Field(gt=0, le=10**6)]
    int8: bool
    int8_seconds: Annotated[float, Field(gt=0, le=10**6)]
    max_int8_drop_points: Tolerance
    reduce_range: bool | None
    executorch: bool
    latency_repeats: Repeats
