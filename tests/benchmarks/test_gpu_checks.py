"""`make gpu`: its rehearsal runs whole without a card, and targets are held against figures."""

import shutil
from pathlib import Path

import pytest
import typer

from benchmarks import gpu
from pipeline.core.closure import TOP
from pipeline.core.files import read_json


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder to measure in, with the project's params.yaml and without data."""
    shutil.copy(TOP / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    return tmp_path


def test_the_rehearsal_runs_whole_without_a_card(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(device="cpu")
    assert "nothing fell short" in capsys.readouterr().out
    content = read_json(here / "reports/bench/gpu.json", made_by="")
    assert [each["ended"] for each in content["ran"]] == ["done"] * len(gpu.REHEARSAL)
    assert set(content["results"]) == {"dump_overhead_resnet_small_8", "teacher_step_resnet_small_8"}


def test_what_can_not_be_run_is_told_and_fails(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "REHEARSAL", (gpu.Check("benchmarks.no_such"),))
    with pytest.raises(typer.Exit):
        gpu.main(device="cpu")
    assert "benchmarks.no_such --device cpu: failed with status 1" in capsys.readouterr().out


def test_a_row_that_misses_its_target_is_told() -> None:
    rows = [{"student": "tiny", "ratio": 1.01}, {"student": "small", "labels": "top2", "ratio": 1.05}]
    told = list(gpu.Target("step_cost", "ratio", most=1.02).shortfalls(rows))
    assert told == ["step_cost, small, top2: ratio 1.050; the target is 1.02 or less"]
    assert list(gpu.Target("step_cost", "ratio", least=1.03).shortfalls(rows[1:])) == []


def test_targets_name_benchmarks_that_there_are() -> None:
    for check in (*gpu.CHECKS, *gpu.REHEARSAL):
        name = check.words.split()[0].removeprefix("benchmarks.")
        assert (TOP / f"benchmarks/{name}.py").exists()
