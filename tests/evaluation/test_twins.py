"""Students against twins: figures made by hand, the same in plain numpy, and which rows are one
student with many seeds.
"""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.evaluation.twins import compare, gain_points, judge
from pipeline.results.evaluation import ExaminedNetwork, Gain

# By how much 95% of Student's t reach further than 95% of the normal distribution, by the number of
# seeds (any table).
WIDER = {seeds: t / 1.959964 for seeds, t in {2: 12.706205, 3: 4.302653, 5: 2.776445}.items()}
RECIPE = {"model": "convnet_small", "labels": "dense8", "temperature": 2.0, "fit": {"learning_rate": 0.1}}


def row(settings: dict[str, Any], twin: str | None = None) -> ExaminedNetwork:
    """Returns a network of which only the settings and the twin matter."""
    return ExaminedNetwork(
        role="student",
        model="convnet_small",
        model_settings={},
        labels=None,
        twin_of=settings.get("twin_of"),
        parameters=0,
        multiply_adds=None,
        file_bytes=0,
        settings=settings,
        train_seconds=None,
        accuracy=0.5,
        nll=1.0,
        ece=0.0,
        brier=0.0,
        class_accuracy=[],
        corruptions={},
        twin=twin,
    )


def pair(name: str, seed: int = 0, *, twin_seed: int | None = None, **changes: Any) -> dict[str, ExaminedNetwork]:
    """Returns a student and its twin by name."""
    shared = RECIPE | {"seed": seed} | changes
    twin = shared | {"labels": "none", "twin_of": name, "seed": seed if twin_seed is None else twin_seed}
    return {
        name: row(shared | {"twin_of": None}, f"{name}_hard"),
        f"{name}_hard": row(twin),
    }


def right(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool)


def test_one_seed_by_hand() -> None:
    rows = {"teacher": row({})} | pair("a")
    correct = {"teacher": right(1, 1, 1, 1), "a": right(1, 1, 1, 0), "a_hard": right(1, 0, 0, 0)}
    (found,) = compare(rows, correct)
    # Differences 0, 1, 1, 0: mean 0.5, standard deviation sqrt(1/3), of the mean a half of that.
    assert asdict(found) == {
        "student": "a",
        "students": ["a"],
        "twins": ["a_hard"],
        "seeds": [0],
        "accuracy": {"mean": 0.75, "sd": None},
        "twin_accuracy": {"mean": 0.25, "sd": None},
        "gain_points": {"mean": 50.0, "sd": None, "standard_error": pytest.approx(100 / 3**0.5 / 2)},
        "paid": "unclear",
        "twin_differs": [],
        "headline": None,
        "twin_headline": None,
    }


def test_two_seeds_by_hand() -> None:
    rows = pair("a", 3) | pair("b", 4)
    correct = {
        "a": right(1, 1, 1, 1, 0),
        "a_hard": right(0, 1, 0, 1, 0),  # gain 40
        "b": right(1, 1, 0, 1, 0),
        "b_hard": right(0, 1, 0, 1, 0),  # gain 20
    }
    (found,) = compare(rows, correct)
    assert (found.students, found.twins, found.seeds) == (["a", "b"], ["a_hard", "b_hard"], [3, 4])
    assert found.accuracy.mean == pytest.approx(0.7)
    assert found.accuracy.sd == pytest.approx(0.1 * 2**0.5)
    assert found.twin_accuracy.mean == pytest.approx(0.4)
    assert found.twin_accuracy.sd == pytest.approx(0)
    # Over seeds the images differ by 1, 0, 0.5, 0, 0: variance 0.2; the gains by 40 and 20:
    # variance 200.
    assert found.gain_points.mean == pytest.approx(30)
    assert found.gain_points.sd == pytest.approx(200**0.5)
    assert found.gain_points.standard_error == pytest.approx(
        (100**2 * 0.2 / 5 + 200 / 2 * WIDER[2] ** 2) ** 0.5, rel=1e-6
    )


def test_another_headline_than_accuracy_stands_beside_it() -> None:
    rows = pair("a", 3) | pair("b", 4)
    rows = {name: replace(row, headline=0.0, accuracy=0.1 * place) for place, (name, row) in enumerate(rows.items())}
    evidence = {"a": (0.7, 0.9), "a_hard": (0.5, 0.5), "b": (0.6, 0.6), "b_hard": (0.1, 0.3)}
    (found,) = compare(rows, {name: torch.tensor(values) for name, values in evidence.items()})
    assert [each.mean for each in found.scores] == pytest.approx([0.7, 0.35])
    assert (found.accuracy.mean, found.twin_accuracy.mean) == pytest.approx((0.1, 0.2))
    assert found.gain_points.mean == pytest.approx(35)


@pytest.mark.parametrize(("seed", "num_seeds", "samples"), [(0, 1, 2000), (1, 2, 7), (2, 3, 500), (3, 5, 10_000)])
def test_gains_equal_their_definition(seed: int, num_seeds: int, samples: int) -> None:
    rng = np.random.default_rng(seed)
    students = rng.random((num_seeds, samples)) < 0.9
    twins = np.where(rng.random((num_seeds, samples)) < 0.8, students, rng.random((num_seeds, samples)) < 0.5)
    difference = 100.0 * (students.astype(float) - twins)
    by_seed = difference.mean(axis=1)
    error = difference.mean(axis=0).std(ddof=1) / np.sqrt(samples)
    found = gain_points(torch.from_numpy(students), torch.from_numpy(twins))
    assert found.mean == pytest.approx(by_seed.mean(), rel=1e-12)
    if num_seeds == 1:
        assert found.sd is None
        assert found.standard_error == pytest.approx(error, rel=1e-12)
    else:
        assert found.sd == pytest.approx(by_seed.std(ddof=1), rel=1e-12)
        error = np.hypot(error, by_seed.std(ddof=1) / np.sqrt(num_seeds) * WIDER[num_seeds])
        assert found.standard_error == pytest.approx(error, rel=1e-6)


def test_what_a_twin_does_otherwise_is_named() -> None:
    rows = pair("a")
    rows["a"].settings.update(new_views=True, label_temperature=4.0)
    rows["a_hard"].settings.update(fit={"learning_rate": 0.2}, temperature=1.0, new_views=False, label_temperature=None)
    (found,) = compare(rows, {"a": right(1, 1), "a_hard": right(1, 0)})
    assert found.twin_differs == ["fit", "new_views"]


def test_the_error_of_a_pair_is_that_of_drawing_test_images_again() -> None:
    rng = np.random.default_rng(0)
    twin = rng.random(1000) < 0.85
    student = np.where(rng.random(1000) < 0.9, twin, rng.random(1000) < 0.9)
    found = gain_points(torch.from_numpy(student)[None], torch.from_numpy(twin)[None])
    drawn = rng.integers(0, 1000, (4000, 1000))
    gains = 100 * (student[drawn].mean(axis=1) - twin[drawn].mean(axis=1))
    assert found.standard_error == pytest.approx(gains.std(), rel=0.05)


@pytest.mark.parametrize(
    ("mean", "error", "paid"),
    [
        (0.41, 0.2, "yes"),
        (0.4, 0.2, "unclear"),
        (0.0, 0.2, "unclear"),
        (-0.4, 0.2, "unclear"),
        (-0.41, 0.2, "no"),
        (0.0, 0.0, "unclear"),
        (0.1, 0.0, "yes"),
    ],
)
def test_a_gain_counts_beyond_two_standard_errors(mean: float, error: float, paid: str) -> None:
    assert judge(Gain(mean, None, error)) == paid


@pytest.mark.parametrize(
    ("others", "groups"),
    [
        (pair("b", 1) | pair("c", 2), [["a", "b", "c"]]),
        (pair("b", 1, fit={"learning_rate": 0.2}), [["a"], ["b"]]),
        (pair("b", 1, labels="dense16"), [["a"], ["b"]]),
        (pair("b", 1, twin_seed=5), [["a", "b"]]),
        (pair("b", 0), [["a"], ["b"]]),  # the same seed again says nothing more
        (pair("b", 1) | pair("c", 1), [["a", "b"], ["c"]]),
        ({"alone": row(RECIPE | {"seed": 1, "twin_of": None})}, [["a"]]),
    ],
)
def test_rows_that_differ_in_their_seed_alone_are_one_student(
    others: dict[str, ExaminedNetwork], groups: list[list[str]]
) -> None:
    rows = pair("a") | others
    correct = {name: right(1, 0) for name in rows}
    assert [found.students for found in compare(rows, correct)] == groups


def test_twins_of_different_recipes_are_not_thrown_together() -> None:
    rows = pair("a", 0) | pair("b", 1)
    rows["b_hard"].settings["fit"] = {"learning_rate": 0.5}
    assert [found.students for found in compare(rows, {name: right(1, 0) for name in rows})] == [["a"], ["b"]]


def test_students_that_chose_their_temperature_or_weights_are_one_student_whatever_it_came_to() -> None:
    rows = pair("a", 0, temperature=2.0, temperature_pilot={"2": {"accuracy": 0.5}})
    rows |= pair("b", 1, temperature=4.0, temperature_pilot={"4": {"accuracy": 0.6}})
    assert [found.students for found in compare(rows, {name: right(1, 0) for name in rows})] == [["a", "b"]]
    rows = pair("a", 0, hard_weight=0.0, soft_weight=1.0, weight_pilot={"0/1": {"accuracy": 0.5}})
    rows |= pair("b", 1, hard_weight=0.5, soft_weight=0.5, weight_pilot={"0/1": {"accuracy": 0.6}})
    assert [found.students for found in compare(rows, {name: right(1, 0) for name in rows})] == [["a", "b"]]
