"""Everything that the report is made of: what the stages before it wrote."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.files import read_json

Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Content:
    """`exports` are by student; `explanation` and `samples` are None where the stage `explain` has not run."""

    evaluation: dict[str, Any]
    verification: dict[str, Any]
    curves: dict[str, list[dict[str, float]]]
    reliability: list[dict[str, str]]
    confusion: list[dict[str, str]]
    exports: Rows
    explanation: dict[str, Any] | None
    samples: dict[str, Any] | None
    sheets: dict[str, bytes]

    @property
    def networks(self) -> Rows:
        rows: Rows = self.evaluation["models"]
        return rows

    @property
    def class_names(self) -> list[str]:
        names: list[str] = self.evaluation["class_names"]
        return names


def read_content(reports: Path, explained: Path, exported: Sequence[str]) -> Content:
    """Reads what the stages wrote into `reports`, and what `explain` wrote into `explained`.

    Args:
        exported: Students; there may be reports of others, from before.
    """
    evaluation = read_json(reports / "evaluate.json", made_by="evaluate")
    curves = {
        name: reports / ("train_teacher.tsv" if name == "teacher" else f"train_student/{name}.tsv")
        for name in evaluation["models"]
    }
    explanation, samples, sheets = None, None, {}
    if (explained / "samples.json").exists():
        explanation = read_json(reports / "explain.json", made_by="explain")
        samples = read_json(explained / "samples.json", made_by="explain")
        names = {key: samples[f"{key}_sheet"] for key in ("tiles", "maps")}
        sheets = {key: (explained / name).read_bytes() for key, name in names.items() if name}
    return Content(
        evaluation,
        read_json(reports / "verify_labels.json", made_by="verify_labels"),
        {name: _numbers(read_table(path)) for name, path in curves.items()},
        read_table(reports / "plots/reliability.tsv"),
        read_table(reports / "plots/confusion.tsv"),
        {name: read_json(reports / f"export/{name}.json", made_by=f"export@{name}") for name in exported},
        explanation,
        samples,
        sheets,
    )


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a TSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _numbers(rows: list[dict[str, str]]) -> list[dict[str, float]]:
    return [{key: float(value) for key, value in row.items()} for row in rows]
