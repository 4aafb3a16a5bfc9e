"""Independent classes: their figures against definitions, and a small project from data to page."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from project import write_params
from tagged import make_tagged_project, tagged_params
from teachers import run_evaluate

from pipeline.core.files import write_json
from pipeline.core.tensors import read_tensors
from pipeline.data.dataset import ImageDataset
from pipeline.evaluation.marks import MARKS
from pipeline.evaluation.marks.binary import taken_for
from pipeline.evaluation.marks.resampling import _times_drawn, evidence_of, resampled
from pipeline.evaluation.twins import gain_points
from pipeline.results.costs import Cost
from pipeline.results.evaluation import Evaluation
from pipeline.results.files import read_result
from pipeline.signals.binary_metrics import binary_ece, f1, mean_average_precision
from stages import report

MARK = MARKS["binary"]


def made(
    count: int = 60, classes: int = 4, *, unknown: float = 0.2, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns log-odds, some of them equal, and entries, which they know something of."""
    rng = np.random.default_rng(seed)
    entries = rng.integers(0, 2, (count, classes)).astype(np.int8)
    log_odds = (2 * entries - 1 + 2 * rng.normal(size=(count, classes))).round(1).astype(np.float32) + 0.03
    entries[rng.random(entries.shape) < unknown] = -1
    return torch.from_numpy(log_odds), torch.from_numpy(entries)


def test_marks_are_those_of_known_entries_at_the_threshold_of_the_validation_split() -> None:
    (odds, entries), validation = made(), made(seed=1)
    teacher = odds.roll(1, 0)
    found = MARK.mark(odds, entries, teacher, validation)
    own, known = found.scores.independent, entries >= 0
    assert own is not None
    tried = [f1(*validation, step / 100)[0] for step in range(1, 100)]
    assert tried[round(100 * own.threshold) - 1] == max(tried)
    said = torch.sigmoid(odds.double()) >= own.threshold
    assert own.class_missed == [int((~said[:, c] & (entries[:, c] == 1)).sum()) for c in range(4)]
    assert own.class_invented == [int((said[:, c] & (entries[:, c] == 0)).sum()) for c in range(4)]
    hits = int((said & (entries == 1)).sum())
    wrong = sum(own.class_missed) + sum(own.class_invented)
    assert own.f1_micro == pytest.approx(2 * hits / (2 * hits + wrong))
    assert found.scores.headline == pytest.approx(
        np.mean([value for value in own.class_precision if value is not None])
    )
    assert found.scores.accuracy == ((odds > 0) == (entries == 1))[known].double().mean().item()
    assert found.scores.agreement == ((odds > 0) == (teacher > 0)).double().mean().item()
    p, q = torch.sigmoid(teacher.double()), torch.sigmoid(odds.double())
    kl = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(1)
    assert found.scores.kl_to_teacher == pytest.approx(kl.mean().item(), rel=1e-5)
    assert torch.equal(found.answers["predicted"] == 1, said)
    torch.testing.assert_close(found.answers["log_odds"].float(), odds, rtol=1e-3, atol=1e-3)
    assert sum(one.count for one in found.bins) == int(known.sum())
    assert found.scores.ece == binary_ece(odds, entries)


def test_a_network_that_finds_nothing_or_of_which_nothing_is_asked_has_marks() -> None:
    odds, entries = torch.full((5, 3), -30.0), torch.zeros(5, 3, dtype=torch.int8)
    found = MARK.mark(odds, entries, None, (odds, entries))
    assert (found.scores.headline, found.confusions) == (0.0, [])
    assert found.evidence.mean() == 0
    assert (MARK.class_counts(entries, 3), MARK.known_counts(entries)) == ([0, 0, 0], [5, 5, 5])


def test_a_class_is_taken_for_those_that_are_invented_where_it_is_missed() -> None:
    entries = torch.tensor([[1, 0, 0], [1, 0, -1], [1, 1, 0]], dtype=torch.int8)
    said = torch.tensor([[0, 1, 1], [0, 1, 1], [1, 0, 1]], dtype=torch.bool)
    # Unknown entries are not invented; a class that was found counts with itself.
    assert list(taken_for(said, entries)) == [(0, 0, 1), (0, 1, 2), (0, 2, 1), (1, 2, 1)]


@pytest.mark.parametrize(("count", "unknown"), [(7, 0.0), (40, 0.3)])
def test_draws_are_the_headline_of_samples_that_are_there_so_often(count: int, unknown: float) -> None:
    odds, entries = made(count, unknown=unknown)
    entries[1:, 3] = 0  # of a rare class many draws have no sample
    entries[0, 3] = 1
    (times,) = _times_drawn(count, 20)
    assert (times.sum(axis=0) == count).all()
    rows = [np.repeat(np.arange(count), own.astype(int)) for own in times.T]
    expected = [mean_average_precision(odds[own], entries[own]) for own in rows]
    assert resampled(odds, entries, 20).tolist() == pytest.approx(expected, rel=1e-6)


def test_the_error_of_a_gain_is_that_of_other_test_samples() -> None:
    def gain(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        odds, entries = made(300, unknown=0.1, seed=seed)
        noise = torch.from_numpy(np.random.default_rng(seed).normal(size=odds.shape)).float()
        return odds, odds + noise, entries

    truth = np.std([mean_average_precision(s, e) - mean_average_precision(t, e) for s, t, e in map(gain, range(100))])
    student, twin, entries = gain(0)
    sides = [
        evidence_of(mean_average_precision(each, entries), resampled(each, entries))[None] for each in (student, twin)
    ]
    found = gain_points(*sides)
    assert found.mean == pytest.approx(
        100 * (mean_average_precision(student, entries) - mean_average_precision(twin, entries))
    )
    assert found.standard_error == pytest.approx(100 * truth, rel=0.25)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a project of independent classes that has been evaluated and reported."""
    folder = make_tagged_project(tmp_path_factory.mktemp("independent"))
    write_params(folder, tagged_params() | {"exports": []})
    with pytest.MonkeyPatch.context() as patch:
        times = {"one": {"p50": 1.0, "p95": 2.0}, "all": {"p50": 1.0, "p95": 2.0}}
        patch.setattr("pipeline.evaluation.networks.measure_cost", lambda *asked: Cost(1, times, 2, 1))
        run_evaluate(folder)
    return folder


def test_evaluate_compares_by_mean_average_precision(judged: Path) -> None:
    found = read_result(Evaluation, judged / "reports/evaluate.json", made_by="evaluate")
    said = read_tensors(judged / "data/evaluate/predictions.safetensors", made_by="")
    entries = ImageDataset(judged / "data/prepare").split("test").hard_labels
    assert found.signal == "binary"
    assert found.class_counts == (entries == 1).sum(0).tolist()
    assert found.class_known == (entries >= 0).sum(0).tolist()
    for name, row in found.models.items():
        assert row.headline == pytest.approx(
            mean_average_precision(said[f"{name}.log_odds"].float(), entries), abs=1e-3
        )
        assert row.score == row.headline == row.corruptions["clean"]
        assert row.independent is not None
        assert (row.brier, row.class_accuracy, row.top5_accuracy) == (None, None, None)
        assert (row.headline_best is None) == (name == "teacher")
    student, twin = found.models["small"], found.models["small_hard"]
    gain = 100 * (student.score - twin.score)
    (compared,) = found.comparisons
    assert student.gain_points == pytest.approx(gain) == pytest.approx(compared.gain_points.mean)
    assert [each.mean for each in compared.scores] == pytest.approx([student.score, twin.score])
    assert compared.accuracy.mean == student.accuracy
    assert compared.gain_points.standard_error > 0


def test_the_plots_of_independent_classes_are_written(judged: Path) -> None:
    plots = judged / "reports/plots"
    heads = {path.name: path.read_text().splitlines()[0].split("\t") for path in plots.iterdir()}
    assert heads["confusion.tsv"] == ["name", "actual", "predicted", "count"]
    assert {"confidence", "accuracy"} <= set(heads["reliability.tsv"])
    assert {"parameters", "accuracy", "headline"} <= set(heads["accuracy_against_size.tsv"])
    metrics = json.loads((judged / "reports/metrics.json").read_text())
    assert list(metrics) == ["map", "accuracy", "gain_points", "ece"]


def test_the_report_answers_in_mean_average_precision_and_lists_every_class(judged: Path) -> None:
    write_json(judged / "reports/verify_labels.json", {"stores": {}})
    report.main(judged / "params.yaml", judged / "reports", judged / "data/explain")
    found = read_result(Evaluation, judged / "reports/evaluate.json", made_by="evaluate")
    student, twin = (f"{100 * found.models[name].score:.2f}%" for name in ("small", "small_hard"))
    answer = f"mean average precision {student} against {twin} of its hard-label twin"
    for name in ("report.md", "table.txt", "report.html"):
        text = (judged / "reports" / name).read_text()
        assert answer in text
        assert "mAP" in text
    precision = found.models["small"].independent
    assert precision is not None
    assert precision.class_precision[2] is not None
    (line,) = [line for line in (judged / "reports/report.md").read_text().splitlines() if "| bottom left " in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert found.class_known is not None
    assert cells[:3] == ["bottom left", str(found.class_counts[2]), str(found.class_known[2])]
    assert f"{precision.class_precision[2]:.2%}" in cells
