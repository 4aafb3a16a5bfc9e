"""The tables of `few_views`: accuracies of each recipe, and its gain over hard labels."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.student.pilots import Pilot, first_close
from pipeline.student.weights import HALVES, PAIRS, words

_TEMPERATURES = (1.0, 2.0, 4.0)
_GROUP = ("part", "data", "teacher", "student", "images", "epochs")


def tables(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Returns a table by part: of each recipe and number of views the means over seeds, in %.

    Gains are over the hard labels of the same seeds, in points, with their standard error.
    """
    hard = {_of_seed(row): row for row in rows if row["recipe"] == "hard labels"}
    gathered: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        gathered.setdefault((*(row[name] for name in _GROUP), row["views"], row["recipe"]), []).append(row)
    found: dict[str, list[dict[str, Any]]] = {}
    for (part, *group, views, recipe), some in gathered.items():
        twins = [(row, hard[_of_seed(row)]) for row in some if _of_seed(row) in hard]
        told = dict(zip(_GROUP[1:], group, strict=True)) | {"views": views, "recipe": recipe, "seeds": len(some)}
        for split in ("val", "test"):
            told[f"{split} %"] = statistics.mean(row[f"{split} %"] for row in some)
            gains = [row[f"{split} %"] - twin[f"{split} %"] for row, twin in twins]
            told[f"{split} gain"] = statistics.mean(gains) if gains else None
            told[f"{split} error"] = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None
        found.setdefault(part, []).append(told)
    return found


def with_auto(rows: Sequence[Mapping[str, Any]], num_samples: Mapping[str, int]) -> list[Mapping[str, Any]]:
    """Returns rows and, as the recipe `auto`, those that the rule of the stages chooses by pilots.

    Args:
        num_samples: The validation images, by data set.
    """
    return [*rows, *_chosen(rows, num_samples)]


def _chosen(rows: Sequence[Mapping[str, Any]], num_samples: Mapping[str, int]) -> Iterator[Mapping[str, Any]]:
    trained = {(*_of_seed(row), row["views"], row["recipe"]): row for row in rows}
    tried: dict[tuple[Any, ...], dict[str, Pilot]] = {}
    for row in rows:
        if row["steps"] is not None:
            key = (row["part"].removesuffix(", pilot"), *_of_seed(row)[1:], row["views"])
            tried.setdefault(key, {})[row["recipe"]] = Pilot(row["val %"] / 100, row["val nll"])
    for key, pilots in tried.items():
        recipe = _choice(pilots, num_samples[key[1]])
        if (*key, recipe) in trained:
            yield {**trained[*key, recipe], "recipe": "auto"}


def _choice(pilots: Mapping[str, Pilot], num_samples: int) -> str | None:
    """Returns the recipe that the stages would choose; None where its pilots have not run."""
    halves = {t: pilots[name] for t in _TEMPERATURES if (name := f"{words(HALVES)}, T {t:g}") in pilots}
    if len(halves) < len(_TEMPERATURES):
        return None
    temperature, _ = first_close(halves, num_samples)
    names = [f"{words(pair)}, T {temperature:g}" for pair in PAIRS]
    return first_close({name: pilots[name] for name in names if name in pilots}, num_samples)[0]


def _of_seed(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*(row[name] for name in _GROUP), row["seed"])
