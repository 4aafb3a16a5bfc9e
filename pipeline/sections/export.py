"""The section `export` of params.yaml, and the list `exports` beside it."""

from pathlib import Path

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from pipeline.config import PARAMS, STRICT, load_rows, load_section, validate
from pipeline.errors import ConfigError, suggest


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Export:
    """In which forms a student is written, and how far these may be off.

    `logit_tolerance` is between float32 here and in torch: more is an error. Accuracy that int8 loses beyond
    `max_int8_drop_points` is told. `reduce_range` leaves int8 weights 7 bits, for x86 processors without VNNI.
    """

    num_calibration_images: PositiveInt
    logit_tolerance: PositiveFloat
    max_int8_drop_points: NonNegativeFloat
    reduce_range: bool
    executorch: bool
    latency_repeats: PositiveInt


def read_exports(path: Path = PARAMS) -> list[str]:
    """The students of the list `exports`; raises ConfigError where one is not in the table `students`, or twice."""
    names: list[str] = validate(list[str], load_section(list, "exports", path), f"{path}: exports")
    students = list(load_rows("students", path))
    for index, name in enumerate(names):
        if name not in students:
            raise ConfigError(f"{path}: exports", f"no student {name!r}", expected=suggest(name, students))
        if name in names[:index]:
            raise ConfigError(f"{path}: exports", f"{name!r} twice", expected="each student once")
    return names
