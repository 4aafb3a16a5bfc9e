"""`hard_weight: auto` and `soft_weight: auto`: both weights of a student, chosen by short trials.

How much the soft labels of a teacher are worth is not known beforehand: those of an overconfident
one are little more than hard labels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pipeline.core import bounds
from pipeline.core.progress import say
from pipeline.student.pilots import Pilot, first_close, number_or_auto, pilot
from pipeline.training.run import FitResult

Pair = tuple[float, float]  # hard_weight, soft_weight
HALVES: Pair = (0.5, 0.5)
PAIRS: tuple[Pair, ...] = ((0.0, 1.0), HALVES, (0.8, 0.2))  # in the order of preference: docs/benchmarks.md


AutoWeight = Annotated[
    bounds.Weight | Literal["auto"],
    number_or_auto("weight", 0.0, bounds.HEAVIEST, f"a number from 0 to {bounds.HEAVIEST:,}, or auto"),
]


@dataclass(frozen=True)
class WeightChoice:
    """A pair of weights, and the pilots that it was chosen by."""

    pair: Pair
    pilots: Mapping[Pair, Pilot]

    def to_dict(self) -> dict[str, Any]:
        """Returns what is written beside the weights and into the report: figures, no times."""
        table = {words(pair): each.to_dict() for pair, each in self.pilots.items()}
        return {"hard_weight": self.pair[0], "soft_weight": self.pair[1], "weight_pilot": table}


def num_pilots(row: Mapping[str, Any], num_temperatures: int) -> int:
    """Returns how many short trials a student's row asks for, with labels at so many temperatures.

    The weights need one less where the temperatures were tried: halves at the chosen one are known.
    """
    tried = num_temperatures if row["temperature"] == "auto" and num_temperatures > 1 else 0
    return tried + (len(PAIRS) - (tried > 0) if row["hard_weight"] == "auto" else 0)


def words(pair: Pair) -> str:
    """Returns a pair as messages and files name it: hard weight / soft weight."""
    return f"{pair[0]:g}/{pair[1]:g}"


def choose_weights(
    try_one: Callable[[Pair, Path], FitResult],
    *,
    known: Mapping[Pair, Pilot],
    num_samples: int,
    folder: Path,
    name: str,
) -> WeightChoice:
    """Returns the softest pair whose accuracy is within one standard error of the best.

    Soft labels are worth most in a long training, so a pilot that can't tell two pairs apart
    speaks for the softer one.

    Args:
        try_one: Trains for a short time, in a folder that outlives a killed process.
        known: Pilots that the choice of a temperature has made already.
        num_samples: The number of samples that accuracies are measured on.
        folder: Keeps finished pilots.
        name: The student's name in messages.
    """

    def tried(pair: Pair) -> Pilot:
        place = folder / f"weights-{pair[0]:g}-{pair[1]:g}"
        return pilot(place, f"{name}: pilot at weights {words(pair)}", lambda scratch: try_one(pair, scratch))

    pilots = {pair: known.get(pair) or tried(pair) for pair in PAIRS}
    chosen, why = first_close(pilots, num_samples)
    others = ", ".join(words(pair) for pair in PAIRS)
    say(f"{name}: hard_weight {chosen[0]:g}, soft_weight {chosen[1]:g}, of {others} the softest {why}")
    return WeightChoice(chosen, pilots)
