"""`hard_weight: auto` and `soft_weight: auto`: which pair is taken, and what is said."""

import math
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.student.pilots import Pilot
from pipeline.student.weights import HALVES, PAIRS, AutoWeight, Pair, WeightChoice, choose_weights, num_pilots
from pipeline.training.run import FitResult, RunState


def choose(folder: Path, accuracies: tuple[float, ...], known: dict[Pair, Pilot] | None = None) -> WeightChoice:
    """Returns the choice between pairs with these accuracies, in their order, on 400 samples."""
    by_pair = dict(zip(PAIRS, accuracies, strict=True))

    def try_one(pair: Pair, scratch: Path) -> FitResult:
        return FitResult({}, {}, RunState(history=[{"val_accuracy": by_pair[pair], "val_nll": 1.0}]))

    return choose_weights(try_one, known=known or {}, num_samples=400, folder=folder, name="x")


@pytest.mark.parametrize(
    ("accuracies", "chosen"),
    [
        # One standard error of 0.8 on 400 samples is 0.02.
        ((0.80, 0.80, 0.80), (0.0, 1.0)),
        ((0.781, 0.80, 0.70), (0.0, 1.0)),
        ((0.779, 0.80, 0.80), (0.5, 0.5)),
        ((0.70, 0.779, 0.80), (0.8, 0.2)),
        ((0.90, 0.50, 0.50), (0.0, 1.0)),
    ],
)
def test_the_softest_pair_within_a_standard_error_of_the_best_is_taken(
    tmp_path: Path, accuracies: tuple[float, ...], chosen: Pair
) -> None:
    found = choose(tmp_path, accuracies).to_dict()
    assert (found["hard_weight"], found["soft_weight"]) == chosen
    assert [row["accuracy"] for row in found["weight_pilot"].values()] == list(accuracies)


def test_what_was_tried_and_why_one_was_chosen_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choose(tmp_path, (0.7, 0.8, 0.79))
    *trials, line = capsys.readouterr().err.splitlines()
    assert trials[0] == "x: pilot at weights 0/1: val accuracy 70.00%, NLL 1.0000"
    assert line == (
        "x: hard_weight 0.5, soft_weight 0.5, of 0/1, 0.5/0.5, 0.8/0.2 the softest that comes within "
        "2.00% (one standard error) of the best accuracy, 80.00%"
    )


def test_halves_that_the_temperature_tried_are_not_tried_again(tmp_path: Path) -> None:
    found = choose(tmp_path, (0.1, 0.2, 0.3), {HALVES: Pilot(0.9, 1.0)})
    assert found.pair == HALVES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights-0-1.json", "weights-0.8-0.2.json"]
    again = choose(tmp_path, (0.9, 0.9, 0.9), {HALVES: Pilot(0.9, 1.0)})
    assert again == found, "from what is kept"


@pytest.mark.parametrize(
    ("temperature", "weight", "temperatures", "expected"),
    [(1.0, 0.5, 3, 0), ("auto", 0.5, 3, 3), ("auto", 0.5, 1, 0), ("auto", "auto", 3, 5), (2.0, "auto", 3, 3)],
)
def test_trials_are_counted_as_they_are_made(
    temperature: object, weight: object, temperatures: int, expected: int
) -> None:
    assert num_pilots({"temperature": temperature, "hard_weight": weight}, temperatures) == expected


@pytest.mark.parametrize("value", [0, 1, 2.5, 10**6, "auto"])
def test_a_weight_is_a_number_or_auto(value: object) -> None:
    assert TypeAdapter(AutoWeight).validate_python(value) == value


@pytest.mark.parametrize("value", [-0.1, 10**6 + 1, math.inf, math.nan, "0.5", "atuo", None, True, [1.0]])
def test_any_other_weight_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="a number from 0 to 1,000,000, or auto"):
        TypeAdapter(AutoWeight).validate_python(value)
