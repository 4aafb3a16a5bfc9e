"""Figures in which every class counts the same: scikit-learn's, their marks and their report."""

from pathlib import Path

import numpy as np
import pytest
import torch
from report_fixture import exported, write_reports
from sklearn.metrics import balanced_accuracy_score, f1_score

from pipeline.core.files import read_json, write_json
from pipeline.evaluation.balanced import balanced_accuracy, macro_f1
from pipeline.evaluation.marks import MARKS, marks_of
from pipeline.evaluation.twins import gain_points
from pipeline.report.content import read_content
from pipeline.report.figures import charts
from pipeline.report.page import render_page
from pipeline.report.summary import terminal
from pipeline.report.verdicts import verdicts
from pipeline.signals.metrics import accuracy

SHARES = [0.8, 0.1, 0.07, 0.03]


def drawn(seed: int, count: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits that are right more often than not, and labels of very different numbers."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(4), (np.array(SHARES) * count).astype(int)))
    logits = rng.normal(size=(len(labels), 4)) + 1.2 * np.eye(4)[labels]
    return torch.from_numpy(logits).float(), torch.from_numpy(labels)


@pytest.mark.parametrize("seed", range(5))
def test_the_figures_are_those_of_scikit_learn(seed: int) -> None:
    logits, labels = drawn(seed)
    predicted = logits.argmax(dim=1)
    assert balanced_accuracy(logits, labels) == pytest.approx(balanced_accuracy_score(labels, predicted), abs=1e-12)
    assert macro_f1(logits, labels) == pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-6)


def test_a_class_without_samples_is_left_out_and_one_guess_for_all_is_what_chance_comes_to() -> None:
    labels = torch.tensor([0] * 97 + [1, 1, 3])
    always = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(100, 1)
    assert accuracy(always, labels) == pytest.approx(0.97)
    assert balanced_accuracy(always, labels) == pytest.approx(1 / 3)
    assert macro_f1(always, labels) == pytest.approx(2 * 97 / 197 / 3)


def test_gains_are_of_balanced_accuracy() -> None:
    (logits, labels), (others, _) = drawn(1), drawn(2)
    ours, theirs = (marks_of("categorical", "balanced").mark(each, labels, None, None) for each in (logits, others))
    plain = MARKS["categorical"].mark(logits, labels, None, None)
    assert plain.scores.headline is plain.scores.macro_f1 is None
    assert ours.scores.accuracy == plain.scores.accuracy
    assert ours.scores.score == ours.scores.headline == pytest.approx(ours.evidence.mean().item())
    gain = gain_points(ours.evidence[None], theirs.evidence[None])
    assert gain.mean == pytest.approx(100 * (ours.scores.score - theirs.scores.score))
    # The error: that of draws of the test samples.
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        rows = torch.from_numpy(rng.integers(0, len(labels), len(labels)))
        found.append(
            100 * (balanced_accuracy(logits[rows], labels[rows]) - balanced_accuracy(others[rows], labels[rows]))
        )
    assert gain.standard_error == pytest.approx(np.std(found), rel=0.25)


@pytest.mark.parametrize("signal", ["binary", "grid"])
def test_signals_whose_headline_is_a_mean_over_classes_keep_it(signal: str) -> None:
    assert marks_of(signal, "balanced") is marks_of(signal, None) is MARKS[signal]


def test_the_report_names_the_balanced_figures_first(tmp_path: Path) -> None:
    write_reports(tmp_path, explained=False)
    evaluation = read_json(tmp_path / "reports/evaluate.json", made_by="")
    for name, row in evaluation["models"].items():
        row |= {"headline": row["accuracy"] - 0.2, "macro_f1": 0.615}
        row |= {"headline_best": row["headline"]} if name != "teacher" else {}
    for each in evaluation["comparisons"]:
        for side, name in (("headline", each["student"]), ("twin_headline", each["twins"][0])):
            each[side] = {"mean": evaluation["models"][name]["headline"], "sd": None}
    write_json(tmp_path / "reports/evaluate.json", evaluation | {"headline": "balanced"})
    content = read_content(tmp_path / "reports", tmp_path / "data/explain", exported(tmp_path))
    words = terminal(content).split()
    assert words.index("balanced") < words.index("macro") < words.index("ECE")
    assert "balanced accuracy 68.00% against 66.90%" in verdicts(content)[1]
    captions = {chart.name: chart.caption for chart in charts(content)}
    assert captions["accuracy_against_size"].startswith("Test balanced accuracy")
    assert captions["training_curves"].startswith("Validation accuracy by epoch")
    page = render_page(content, [*charts(content)])
    assert page.index("balanced accuracy") < page.index("macro F1")
    assert "61.50%" in page
