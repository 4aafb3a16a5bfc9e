"""The section `export` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.bounds import Repeats, Samples, Tolerance
from pipeline.core.config import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Aware:
    """The training of a network that learns to be in int8.

    `steps` are rounded up to whole epochs where an epoch has fewer; `learning_rate` is the peak of
    AdamW's.
    """

    steps: Annotated[int, Field(gt=0, le=10**6)]
    learning_rate: Annotated[float, Field(gt=0, ge=1e-12, le=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Export:
    """The settings of an export: the forms that a student is written in, and their tolerances.

    `logit_tolerance` is between float32 here and in torch, as a share of the logits' spread: more
    is an error. `int8: aware` makes a second int8 file, of a network that was trained for it as
    `aware` says. Layers of the first one stay in float32 until int8 loses at most
    `max_int8_drop_points` of accuracy (of mean average precision, where classes are independent; of
    mean IoU, where each pixel has a class) on `num_checked_images` validation images; the file is
    left out where that takes longer than `int8_seconds`. `reduce_range` leaves int8 weights 7 bits,
    for x86 processors without VNNI; None: where that is nearer to float32 on this one.
    """

    num_calibration_images: Samples
    num_checked_images: Samples
    logit_tolerance: Annotated[float, Field(gt=0, le=10**6)]
    int8: Literal[True, False, "aware"]
    aware: Aware
    int8_seconds: Annotated[float, Field(gt=0, le=10**6)]
    max_int8_drop_points: Tolerance
    reduce_range: bool | None
    executorch: bool
    latency_repeats: Repeats
