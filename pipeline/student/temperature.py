"""`temperature: auto`: the temperature of a student, chosen by short trials on stored labels.

Stored labels serve any declared temperature, so a trial costs some steps of the student and no
teacher.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pipeline.core import bounds
from pipeline.core.progress import say
from pipeline.student.pilots import Pilot, first_close, number_or_auto, pilot
from pipeline.training.run import FitResult

Temperature = Annotated[
    bounds.Temperature | Literal["auto"],
    number_or_auto(
        "temperature",
        bounds.COLDEST,
        bounds.HOTTEST,
        f"a number above 0, or auto ({bounds.COLDEST} to {bounds.HOTTEST})",
    ),
]


@dataclass(frozen=True)
class Choice:
    """A temperature, and the pilots that it was chosen by (none where there was no choice)."""

    temperature: float
    pilots: Mapping[float, Pilot]

    def to_dict(self) -> dict[str, Any]:
        """Returns what is written beside the weights and into the report: figures, no times."""
        table = {f"{temperature:g}": each.to_dict() for temperature, each in self.pilots.items()}
        return {"temperature": self.temperature, "temperature_pilot": table}


def choose_temperature(
    candidates: Sequence[float],
    try_one: Callable[[float, Path], FitResult],
    *,
    num_samples: int,
    folder: Path,
    name: str,
) -> Choice:
    """Returns the lowest temperature whose accuracy is within one standard error of the best.

    Among such temperatures the lower one is safer, because high ones cost small students the most.

    Args:
        try_one: Trains for a short time, in a folder that outlives a killed process.
        num_samples: The number of samples that accuracies are measured on.
        folder: Keeps finished pilots.
        name: The student's name in messages.
    """
    if len(candidates) == 1:
        say(f"{name}: temperature {candidates[0]:g}, the only one that its store serves")
        return Choice(candidates[0], {})

    def tried(temperature: float) -> Pilot:
        place, title = folder / f"temperature-{temperature:g}", f"{name}: pilot at temperature {temperature:g}"
        return pilot(place, title, lambda scratch: try_one(temperature, scratch))

    pilots = {temperature: tried(temperature) for temperature in sorted(candidates)}
    chosen, why = first_close(pilots, num_samples)
    say(f"{name}: temperature {chosen:g}, the lowest {why}")
    return Choice(chosen, pilots)
