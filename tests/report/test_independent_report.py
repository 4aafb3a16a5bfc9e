"""The report of independent classes: mean average precision in words, tables and charts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_fixture import CLASS_NAMES, exported, write_reports

from pipeline.core.files import read_json, write_bytes, write_json
from pipeline.report.content import Content, read_content
from pipeline.report.figures import charts
from pipeline.report.page import render_page
from pipeline.report.summary import markdown, terminal
from pipeline.report.verdicts import verdicts


def write_independent_reports(folder: Path, **options: Any) -> None:
    """Writes the files of `write_reports` as they would be of independent classes."""
    write_reports(folder, **options)
    rng, reports = np.random.default_rng(1), folder / "reports"
    evaluation = read_json(reports / "evaluate.json", made_by="")
    evaluation |= {"signal": "binary", "class_known": [count + 50 for count in evaluation["class_counts"]]}
    for name, row in evaluation["models"].items():
        by_class = [*rng.uniform(0.5, 1, len(row.pop("class_accuracy")) - 1).tolist(), None]
        for key in ("brier", "top5_accuracy"):
            row.pop(key, None)
        counts = [int(count) for count in rng.integers(0, 40, len(by_class))]
        row |= {"headline": row["accuracy"] - 0.1, "accuracy": 0.97}
        row |= {"headline_best": row["headline"]} if name != "teacher" else {}
        row["independent"] = {
            "threshold": 0.37,
            "f1_micro": 0.71,
            "f1_macro": 0.62,
            "class_precision": by_class,
            "class_missed": counts,
            "class_invented": counts[::-1],
        }
        path = reports / ("train_teacher.tsv" if name == "teacher" else f"train_student/{name}.tsv")
        write_bytes(path, path.read_bytes().replace(b"val_accuracy", b"val_map"))
    for compared in evaluation["comparisons"]:
        for side, name in (("headline", compared["student"]), ("twin_headline", compared["twins"][0])):
            compared[side] = {"mean": evaluation["models"][name]["headline"], "sd": None}
    write_json(reports / "evaluate.json", evaluation)
    for path in (reports / "export").glob("*.json"):
        export = read_json(path, made_by="")
        for facts in (export["torch"], *export["files"].values()):
            facts["headline"] = facts["accuracy"] - 0.1
        write_json(path, export)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    folder = tmp_path_factory.mktemp("report")
    write_independent_reports(folder, explained=False)
    return read_content(folder / "reports", folder / "data/explain", exported(folder))


def test_a_verdict_is_in_points_of_mean_average_precision(content: Content) -> None:
    assert verdicts(content)[1] == (
        "small (24,274 parameters, one seed): distillation paid: mean average precision 78.00% against 76.90% of its "
        "hard-label twin, +1.10 ± 0.60 points"
    )


def test_charts_are_of_mean_average_precision(content: Content) -> None:
    drawn = {chart.name: chart for chart in charts(content)}
    assert drawn["accuracy_against_size"].caption.startswith("Test mean average precision against size of the file")
    assert "small 78.0%" in drawn["accuracy_against_size"].label
    assert drawn["training_curves"].caption.startswith("Validation mean average precision by epoch")
    assert "a probability is what it claims" in drawn["reliability"].caption
    assert "average precision of the student minus that of its twin" in drawn["class_gains"].caption
    assert drawn["robustness"].caption.startswith("Mean average precision on corrupted test images")


@pytest.mark.parametrize("kind", ["terminal", "markdown", "page"])
def test_the_figures_of_one_class_of_several_are_nowhere(content: Content, kind: str) -> None:
    drawn = list(charts(content))
    made = {"terminal": terminal, "markdown": lambda c: markdown(c, drawn), "page": lambda c: render_page(c, drawn)}
    text = made[kind](content)
    assert "mAP" in text
    assert "F1 micro" in text
    for other in ("top-1", "top-5", " taken for ", "Accuracy on", "Test accuracy", "teacher's accuracy"):
        assert other not in text


def test_every_class_is_a_line_with_each_networks_precision(content: Content) -> None:
    table = content.marks.class_table(content.evaluation)
    assert table is not None
    assert [column.title for column in table.columns][:6] == [
        "class",
        "images",
        "known",
        "teacher",
        "medium",
        "medium_hard",
    ]
    assert [line[0].text for line in table.lines] == CLASS_NAMES
    assert table.columns[-1].title == "invented by medium"  # the best student
    own = content.networks["medium"].independent
    assert own is not None
    place = [column.title for column in table.columns].index("medium")
    assert [line[place].value for line in table.lines] == own.class_precision
