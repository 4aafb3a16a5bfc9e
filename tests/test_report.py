"""The report: tables and verdicts say what the figures say, and drawings are the same bytes each time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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


def network(role: str, accuracy: float, **more: Any) -> dict[str, Any]:
    about = {"role": role, "twin_of": None, "parameters": 1234, "multiply_adds": 2_500_000, "train_seconds": 61.0}
    figures = {"accuracy": accuracy, "nll": 0.4321, "ece": 0.0123, "brier": 0.2}
    return {**about, **figures, **more}


def student(accuracy: float, **more: Any) -> dict[str, Any]:
    return network("student", accuracy, accuracy_best=0.8765, agreement=0.9, kl_to_teacher=0.25, **more)


def twin(of: str, accuracy: float) -> dict[str, Any]:
    return network("twin", accuracy, twin_of=of, accuracy_best=0.8, agreement=0.8, kl_to_teacher=0.5)


CALIBRATION = {
    "accuracy": 0.91,
    "calibration_temperature": 1.75,
    "nll": 0.5,
    "ece": 0.08,
    "calibrated": {"nll": 0.3, "ece": 0.01},
}
ROWS: dict[str, dict[str, Any]] = {
    "teacher": network("teacher", 0.9, parameters=98765, val=CALIBRATION),
    "up": student(0.85, twin="up_hard", gain_points=2.5),
    "up_hard": twin("up", 0.825),
    "down": student(0.8, twin="down_hard", gain_points=-1.25),
    "down_hard": twin("down", 0.8125),
    "even": student(0.8, twin="even_hard", gain_points=0.0),
    "even_hard": twin("even", 0.8),
    "alone": student(0.7),
}
KL = {"mean": 1.5e-5, "p999": 2e-4, "max": 3e-4}
STORES: dict[str, dict[str, Any]] = {
    "dense8": {
        "num_views": 8,
        "num_samples": 54000,
        "size_bytes": 4_560_000,
        "label_bytes": 10.25,
        "fidelity": {"top1_agreement": 0.99987, "kl_nats": {"4": KL, "1": {**KL, "mean": 7.5e-5}, "10": KL}},
    },
    "none": {"num_views": 8, "num_samples": 54000, "size_bytes": 440_000, "label_bytes": 0.01, "fidelity": None},
}
CURVES = {
    name: [{"epoch": float(e), "val_accuracy": row["accuracy"] - 0.1 / e} for e in (1, 2, 3)]
    for name, row in ROWS.items()
}
BINS = [{"name": name, "confidence": str(c), "accuracy": str(c - 0.05)} for name in ROWS for c in (0.3, 0.6, 0.9)]


def cells(table: str, name: str) -> list[str]:
    """The cells of a network's or a store's line in a Markdown table."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_network_is_a_line_with_its_figures() -> None:
    table = results_table(ROWS, "github")
    assert len(table.splitlines()) == 2 + len(ROWS)
    expected = ["up", "student", "1,234", "2.50 M", "85.00%", "87.65%", "0.4321", "0.0123"]
    assert cells(table, "up") == [*expected, "90.00%", "0.2500", "61", "+2.50"]
    assert cells(table, "down")[-1] == "-1.25"
    assert cells(table, "up_hard")[1] == "twin of up"
    # What does not apply is empty, not zero.
    assert [cells(table, "teacher")[i] for i in (5, 8, 9, 11)] == [""] * 4
    assert cells(table, "alone")[-1] == ""


def test_every_store_is_a_line_with_its_size_and_fidelity() -> None:
    table = stores_table(STORES, "github")
    assert [f"mean KL at {t} (nats)" in table for t in (1, 4, 10)] == [True] * 3
    assert table.index("KL at 1 ") < table.index("KL at 4 ") < table.index("KL at 10 ")
    assert cells(table, "dense8") == [
        "dense8",
        "8",
        "54,000",
        "4.56",
        "10.25",
        "7.5e-05",
        "1.5e-05",
        "1.5e-05",
        "99.987%",
    ]
    assert cells(table, "none") == ["none", "8", "54,000", "0.44", "no labels", "", "", "", ""]


def test_a_verdict_says_whether_distillation_paid() -> None:
    up, down, even = verdicts(ROWS)
    assert up == (
        "up (1,234 parameters): distillation paid in this run: "
        "85.00% against 82.50% of its hard-label twin (+2.50 points)"
    )
    assert "down (1,234 parameters): distillation did not pay" in down
    assert "80.00% against 81.25%" in down
    assert "even (1,234 parameters): distillation made no difference" in even


def test_the_report_holds_verdicts_tables_calibration_faults_and_figures() -> None:
    verification = {"stores": {"dense8": {"faults": ["one", "two"]}, "none": {"faults": []}}}
    content = {"models": ROWS, "stores": STORES, "num_test": 2500}
    text = markdown(content, verification, {"figures/a.png": "What a shows."})
    for line in verdicts(ROWS):
        assert f"- {line}\n" in text
    assert results_table(ROWS, "github") in text
    assert stores_table(STORES, "github") in text
    assert "2,500 test images" in text
    assert "is 0.60 points" in text  # sqrt(0.9 * 0.1 / 2500)
    words = " ".join(text.split())
    assert "is 1.750: it takes the NLL there from 0.5000 to 0.3000 and the ECE from 0.0800 to 0.0100" in words
    assert "dense8 (2 faults), none (0 faults)" in text
    assert "![What a shows.](figures/a.png)" in text


SOME = {name: ROWS[name] for name in ("teacher", "up", "up_hard", "alone")}
DRAWINGS: dict[str, Callable[[Path], None]] = {
    "size": lambda path: draw_accuracy_against_size(SOME, path),
    "curves": lambda path: draw_training_curves(CURVES, SOME, path),
    "reliability": lambda path: draw_reliability(BINS, SOME, path),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_is_drawn_to_the_same_bytes_each_time(tmp_path: Path, name: str) -> None:
    for file in ("one.png", "deep/er/two.png"):
        DRAWINGS[name](tmp_path / file)
    content = (tmp_path / "one.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 5000
    assert (tmp_path / "deep/er/two.png").read_bytes() == content


def test_figures_are_drawn_for_a_teacher_alone_and_for_one_that_was_imported(tmp_path: Path) -> None:
    teacher = {"teacher": ROWS["teacher"]}
    draw_accuracy_against_size(teacher, tmp_path / "size.png")
    draw_training_curves({"teacher": CURVES["teacher"]}, teacher, tmp_path / "curves.png")
    draw_training_curves({**CURVES, "teacher": []}, SOME, tmp_path / "imported.png")
    draw_reliability(BINS, teacher, tmp_path / "reliability.png")
    assert all(
        (tmp_path / f"{name}.png").stat().st_size > 5000 for name in ("size", "curves", "imported", "reliability")
    )


def test_a_table_is_read_by_column(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("name\taccuracy\nup\t0.5\ndown\t0.25\n")
    assert read_table(tmp_path / "x.tsv") == [{"name": "up", "accuracy": "0.5"}, {"name": "down", "accuracy": "0.25"}]
