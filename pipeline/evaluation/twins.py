"""Students against their hard-label twins, over seeds where there are several, with the error of
the difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float64, Shaped
from scipy.stats import norm, t

from pipeline.evaluation.marks.base import Evidence
from pipeline.results.evaluation import Comparison, ExaminedNetwork, Gain, Spread, Verdict

_STANDARD_ERRORS = 2  # from 0, for a gain to count: chance alone stays below in 95% of the cases that the error covers
_COVERED = 0.975  # on one side, of 95% on both
#: Settings that make a network a twin, or that change nothing.
_A_TWINS_OWN = {
    "labels",
    "hard_weight",
    "soft_weight",
    "temperature",
    "label_temperature",
    "temperature_pilot",
    "weight_pilot",
    "loss",
    "features",
    "feature_weight",
    "feature_loss",
    "twin_of",
    "seed",
    "group",
}
#: The figures of trials, and the settings that they chose, which may differ between seeds.
_TRIALS = {"temperature_pilot": ["temperature"], "weight_pilot": ["hard_weight", "soft_weight"]}


def compare(rows: Mapping[str, ExaminedNetwork], evidence: Mapping[str, Evidence]) -> list[Comparison]:
    """Returns a comparison for every student that has a twin; students that differ in their seed
    alone share one.

    Args:
        rows: The networks by name.
        evidence: Of each network: for one class of several, the test images that it is right about.
    """
    return [_compare(group, evidence, rows) for group in _group(rows)]


def gain_points(students: Shaped[torch.Tensor, "seeds values"], twins: Shaped[torch.Tensor, "seeds values"]) -> Gain:
    """Returns the mean gain of students over their twins on the same test images, from the evidence
    of both.

    Both saw the same images, so the spread of the difference on each counts: it is much less than
    that of two headlines on their own."""
    # 1. The error from the choice of test images: the spread of the difference on each.
    differences = 100 * (students.double() - twins.double())
    by_image = differences.mean(dim=0)
    image_error = (_deviation(by_image) or 0.0) / len(by_image) ** 0.5
    # 2. The error from seed to seed: wider for few seeds, by the quantiles of Student's t and the
    # normal distribution.
    of_seeds = _spread(differences.mean(dim=1))
    seed_error = 0.0
    if of_seeds.sd is not None:
        seed_error = (
            of_seeds.sd / len(students) ** 0.5 * float(t.ppf(_COVERED, len(students) - 1)) / float(norm.ppf(_COVERED))
        )
    return Gain(of_seeds.mean, of_seeds.sd, (image_error**2 + seed_error**2) ** 0.5)


def judge(gain: Gain) -> Verdict:
    """Returns whether a gain is there, beyond chance."""
    margin = _STANDARD_ERRORS * gain.standard_error
    return "yes" if gain.mean > margin else "no" if gain.mean < -margin else "unclear"


@dataclass
class _Group:
    """A student with one or more seeds."""

    recipe: tuple[dict[str, Any], ...]
    students: list[str] = field(default_factory=list)
    twins: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)


def _group(rows: Mapping[str, ExaminedNetwork]) -> list[_Group]:
    groups: list[_Group] = []
    for name, row in rows.items():
        if row.twin is None:
            continue
        recipe, seed = (_recipe(row.settings), _recipe(rows[row.twin].settings)), row.settings["seed"]
        # The same seed again is the same student again, not another one.
        group = next((group for group in groups if group.recipe == recipe and seed not in group.seeds), None)
        if group is None:
            groups.append(group := _Group(recipe))
        group.students.append(name)
        group.twins.append(row.twin)
        group.seeds.append(seed)
    return groups


def _recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that two students must share to differ in their seed alone."""
    shared = {key: value for key, value in settings.items() if key not in {"seed", "twin_of", *_TRIALS}}
    return shared | {key: "auto" for trials, chosen in _TRIALS.items() if trials in settings for key in chosen}


def _compare(group: _Group, evidence: Mapping[str, Evidence], rows: Mapping[str, ExaminedNetwork]) -> Comparison:
    students, twins = (torch.stack([evidence[name] for name in names]) for names in (group.students, group.twins))
    gain = gain_points(students, twins)
    measure, twin_measure = (_spread(each.double().mean(dim=1)) for each in (students, twins))
    names = (group.students[0], group.students, group.twins, group.seeds)
    differing = _differing(*(rows[name].settings for name in (group.students[0], group.twins[0])))
    if rows[group.students[0]].headline is None:
        return Comparison(*names, measure, twin_measure, gain, judge(gain), differing)
    accuracy, twin_accuracy = (_accuracies(each, rows) for each in (group.students, group.twins))
    return Comparison(*names, accuracy, twin_accuracy, gain, judge(gain), differing, measure, twin_measure)


def _accuracies(names: Sequence[str], rows: Mapping[str, ExaminedNetwork]) -> Spread:
    return _spread(torch.tensor([rows[name].accuracy for name in names], dtype=torch.double))


def _differing(student: Mapping[str, Any], twin: Mapping[str, Any]) -> list[str]:
    return [key for key in student if key not in _A_TWINS_OWN and student[key] != twin.get(key)]


def _spread(values: Float64[torch.Tensor, " seeds"]) -> Spread:
    return Spread(values.mean().item(), _deviation(values))


def _deviation(values: Float64[torch.Tensor, " some"]) -> float | None:
    """Returns the sample's standard deviation; None for fewer than two values."""
    return values.std().item() if len(values) > 1 else None
