"""The tables of `few_views`: accuracies of each recipe, and its gain over hard labels."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

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


def _of_seed(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*(row[name] for name in _GROUP), row["seed"])
