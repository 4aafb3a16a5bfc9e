"""The content of the report: everything that it needs of what the other stages wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.files import read_json
from pipeline.core.tables import read_table
from pipeline.report.marks import BALANCED, MARKS, Marks
from pipeline.results.evaluation import Evaluation, NetworkRow
from pipeline.results.explanation import Explanation
from pipeline.results.export import ExportReport
from pipeline.results.files import read_result

Networks = Mapping[str, NetworkRow]


@dataclass(frozen=True)
class Content:
    """The content of the report, read from files.

    Attributes:
        curves: The rows of each network's training, by epoch.
        exports: By student.
        explanation: None where the stage `explain` has not run, as are the samples.
        samples: `ShownSamples` as plain JSON: the page's script gets them as the file has them.
        sheets: Images of many tiles each, as files.
    """

    evaluation: Evaluation
    verification: dict[str, Any]
    curves: dict[str, list[dict[str, float]]]
    reliability: list[dict[str, str]]
    confusion: list[dict[str, str]]
    exports: Mapping[str, ExportReport]
    explanation: Explanation | None
    samples: dict[str, Any] | None
    sheets: dict[str, bytes]

    @property
    def networks(self) -> Networks:
        """The networks by name, the teacher first."""
        return self.evaluation.models

    @property
    def marks(self) -> Marks:
        """The way in which the figures of the data's signal are shown."""
        return BALANCED if self.evaluation.headline == "balanced" else MARKS[self.evaluation.signal]

    def worded(self, text: str) -> str:
        """Returns a text with the name of a sample in place of `{thing}` and `{things}`."""
        return self.evaluation.worded(text)

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, in their order."""
        return self.evaluation.class_names


def read_content(reports: Path, explained: Path, exported: Sequence[str]) -> Content:
    """Returns what the stages wrote into `reports`, and what `explain` wrote into `explained`.

    Args:
        exported: The students whose exports are reported; files of others may be left from before.
    """
    evaluation = read_result(Evaluation, reports / "evaluate.json", made_by="evaluate")
    curves = {
        name: reports / ("train_teacher.tsv" if name == "teacher" else f"train_student/{name}.tsv")
        for name in evaluation.models
    }
    explanation, samples, sheets = None, None, {}
    if (explained / "samples.json").exists():
        explanation = read_result(Explanation, reports / "explain.json", made_by="explain")
        samples = read_json(explained / "samples.json", made_by="explain")
        names = {key: samples.get(f"{key}_sheet") for key in ("tiles", "maps")}
        sheets = {key: (explained / name).read_bytes() for key, name in names.items() if name}
    return Content(
        evaluation,
        read_json(reports / "verify_labels.json", made_by="verify_labels"),
        {name: _numbers(read_table(path)) for name, path in curves.items()},
        read_table(reports / "plots/reliability.tsv"),
        read_table(reports / "plots/confusion.tsv"),
        {n: read_result(ExportReport, reports / f"export/{n}.json", made_by=f"export@{n}") for n in exported},
        explanation,
        samples,
        sheets,
    )


def _numbers(rows: list[dict[str, str]]) -> list[dict[str, float]]:
    return [{key: float(value) for key, value in row.items()} for row in rows]
