"""report: reports/*.json and *.tsv -> reports/report.md, table.txt and figures."""

from pathlib import Path

from pipeline.artifacts import read_json, say, write_bytes
from pipeline.report import (
    draw_accuracy_against_size,
    draw_reliability,
    draw_training_curves,
    markdown,
    read_table,
    results_table,
    stores_table,
    verdicts,
)
from stages import run_stage


def main(reports: Path = Path("reports")) -> None:
    content = read_json(reports / "evaluate.json", made_by="evaluate")
    verification = read_json(reports / "verify_labels.json", made_by="verify_labels")
    rows = content["models"]
    files = {
        name: reports / ("train_teacher.tsv" if name == "teacher" else f"train_student/{name}.tsv") for name in rows
    }
    curves = {
        name: [{key: float(value) for key, value in row.items()} for row in read_table(path)]
        for name, path in files.items()
    }
    draw_accuracy_against_size(rows, reports / "figures/accuracy_against_size.png")
    draw_training_curves(curves, rows, reports / "figures/training_curves.png")
    draw_reliability(read_table(reports / "plots/reliability.tsv"), rows, reports / "figures/reliability.png")
    figures = {
        "figures/accuracy_against_size.png": "Test accuracy against size; a line joins a student to its hard-label twin.",
        "figures/training_curves.png": "Validation accuracy by epoch, of each student and its twin.",
        "figures/reliability.png": "Reliability on the test split: on the diagonal, confidence is what it claims.",
    }
    write_bytes(reports / "report.md", markdown(content, verification, figures).encode())
    table = "\n\n".join(
        [results_table(rows, "simple"), stores_table(content["stores"], "simple"), "\n".join(verdicts(rows))]
    )
    write_bytes(reports / "table.txt", (table + "\n").encode())
    say(f"report: {reports / 'report.md'}")


if __name__ == "__main__":
    run_stage(main)
