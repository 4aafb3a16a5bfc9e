"""The whole DAG in small, by DVC: what re-runs, and what a killed DVC leaves.

Killed stages are in the tests of the rooms that they run.
"""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from project import (
    environment,
    files_of,
    forget,
    make_project,
    repro,
    run,
    run_warm,
    small_params,
    stages_run,
    student,
    write_params,
)

STUDENTS = ["train_student@small", "train_student@small_hard"]
TOLD = ["evaluate", "explain", "report"]  # what follows any student


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a project after its first `dvc repro`."""
    folder = make_project(tmp_path_factory.mktemp("finished"), small_params())
    ran = repro(folder)
    assert sorted(ran) == sorted(
        ["prepare", "train_teacher", "dump_labels", "verify_labels", *STUDENTS, *TOLD, "export@small"]
    )
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """Returns a copy of the finished project, to change."""
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))


def test_a_second_run_does_nothing(project: Path) -> None:
    assert repro(project) == []


def test_metrics_and_plots_are_what_dvc_reads(project: Path) -> None:
    shown = json.loads(run_warm(project, "dvc", "metrics", "show", "--json").stdout)
    metrics = shown[""]["data"]
    assert set(metrics["reports/metrics.json"]["data"]["accuracy"]) == {"teacher", "small", "small_hard"}
    assert "seconds" in metrics["reports/train_student/small.json"]["data"]
    run_warm(project, "dvc", "plots", "show")
    page = (project / "dvc_plots/index.html").read_text()
    assert "val_accuracy" in page
    assert "reliability" in page


def test_a_students_learning_rate_re_runs_it_and_what_follows(project: Path) -> None:
    params = small_params()
    params["students"]["small"]["fit"]["learning_rate"] = 0.02
    write_params(project, params)
    assert repro(project, "export@small") == ["train_student@small", "export@small"]
    assert repro(project, "--dry", "evaluate") == ["evaluate"]


def test_a_new_student_re_runs_nothing_of_the_teachers(project: Path) -> None:
    params = small_params()
    params["students"]["other"] = student(seed=1, labels="dense16")
    write_params(project, params)
    assert repro(project, "train_student@other") == ["train_student@other"]


def test_a_new_encoding_re_runs_no_student(project: Path) -> None:
    params = small_params()
    params["encodings"]["coarse"] = {"kind": "dense_uint8", "range_nats": 80.0, "levels": 255}
    write_params(project, params)
    assert repro(project, "verify_labels", *STUDENTS) == ["dump_labels", "verify_labels"]


def test_what_is_no_longer_exported_is_no_longer_reported(project: Path) -> None:
    assert "model_int8.onnx" in (project / "reports/report.md").read_text()
    write_params(project, small_params() | {"exports": []})
    assert repro(project) == ["report"]
    assert "model_int8.onnx" not in (project / "reports/report.md").read_text()


def test_a_grid_of_experiments_trains_one_student_and_runs_no_teacher(project: Path) -> None:
    """What docs/experiments.md says, with a key that the row has and one that it takes from the
    defaults.
    """
    params = small_params()
    params["students_defaults"] = {"hard_weight": params["students"]["small"].pop("hard_weight")}
    write_params(project, params)
    repro(project, "train_student@small")
    (project / ".dvc/config.local").unlink()
    (project / ".gitignore").write_text(".dvc/tmp\n.dvc/cache\n/work\n/data\n__pycache__\n")
    git = ["git", "-c", "user.name=nobody", "-c", "user.email=nobody@example.com"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first results"]):
        run(project, *git, *arguments)
    target = "train_student@small"
    grid = ["-S", "students.small.temperature=1,4", "-S", "+students.small.hard_weight=0.25"]
    run_warm(project, "dvc", "exp", "run", "--queue", *grid, target)
    told = run_warm(project, "dvc", "exp", "run", "--run-all").stdout
    assert stages_run(told) == [target] * 2
    assert told.count("Stage 'train_teacher' didn't change") == 2
    shown = list(csv.DictReader(io.StringIO(run_warm(project, "dvc", "exp", "show", "--only-changed", "--csv").stdout)))
    found = {
        (row["students.small.temperature"], row["students.small.hard_weight"]) for row in shown if row["Experiment"]
    }
    assert found == {("1", "0.25"), ("4", "0.25")}
    assert {row["reports/train_student/small.json:val.last"] for row in shown} - {""}


def test_more_views_ask_the_teacher_for_the_new_ones_alone(project: Path) -> None:
    before = files_of(project / "data/dump_labels/top2.zarr")
    params = small_params()
    params["dump_labels"]["num_views"] = 3
    write_params(project, params)
    assert repro(project, "train_student@small") == ["dump_labels", "train_student@small"]
    after = files_of(project / "data/dump_labels/top2.zarr")
    blocks = {name for name in before if name.startswith(("classes/c/", "log_prob_codes/c/", "prior_classes/c/"))}
    assert blocks
    assert all(after[name] == before[name] for name in blocks)
    assert len(after) > len(before)


def test_an_encodings_code_does_not_retrain_the_teacher(project: Path) -> None:
    path = project / "pipeline/labels/encodings/base.py"
    path.write_text(path.read_text().replace("share.sqrt() * (", "share.sqrt().add(0.0) * ("))
    assert repro(project, "train_student@small") == ["dump_labels", "train_student@small"]


def test_another_teacher_leaves_the_twins_alone(project: Path) -> None:
    params = small_params()
    params["train_teacher"]["seed"] = 1
    write_params(project, params)
    assert repro(project, *STUDENTS) == ["train_teacher", "dump_labels", "train_student@small"]


def test_one_store_and_the_data_are_enough_to_train_elsewhere(project: Path, tmp_path: Path) -> None:
    """What the README says of a small machine: code, data/prepare, one store, no DVC, no
    teacher."""
    device = tmp_path / "device"
    for name in ("pipeline", "stages", "data/prepare", "data/dump_labels/dense8.zarr"):
        shutil.copytree(project / name, device / name)
    shutil.copy(project / "params.yaml", device)
    run_warm(device, "stages.train_student", "--name", "small")
    trained = [files_of(folder / "data/train_student/small") for folder in (project, device)]
    assert trained[0]["weights.safetensors"] == trained[1]["weights.safetensors"]


def test_dvc_killed_without_its_child_then_run_again(project: Path) -> None:
    expected = files_of(project / "data/train_student/small")
    params = small_params()
    params["students"]["small"]["fit"]["epochs"] = 3
    write_params(project, params)
    target = "train_student@small"
    first = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", target], cwd=project, env=environment(), stdout=-3, stderr=-3
    )
    deadline = time.monotonic() + 120
    while not list((project / "work").glob("*/checkpoint.json")) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert repro(project, target) == [target]
    again = files_of(project / "data/train_student/small")
    assert again["weights.safetensors"] != expected["weights.safetensors"]
    forget(project, "train_student/small")
    run_warm(project, "stages.train_student", "--name", "small")
    assert files_of(project / "data/train_student/small") == again
