"""The whole DAG in small, by DVC: what re-runs, and what a killed DVC leaves.

Killed stages are in the tests of the rooms that they run.
"""

import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
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

from pipeline.core.errors import PipelineError
from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader
from pipeline.models.saved import read_model

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
    """Returns a copy of the finished project, to change; what is linked there is linked in it."""
    run(tmp_path, "cp", "-a", str(finished), "project")
    return tmp_path / "project"


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


def test_a_new_student_a_new_encoding_and_another_learning_rate_re_run_what_they_concern(project: Path) -> None:
    """Changes all three at once: neither the teacher nor a student beside these runs again."""
    params = small_params()
    params["students"]["small_hard"]["fit"]["learning_rate"] = 0.02
    params["students"]["other"] = student(seed=1, labels="dense16")
    params["encodings"]["coarse"] = {"kind": "dense_uint8", "range_nats": 80.0, "levels": 255}
    write_params(project, params)
    ran = repro(project, "verify_labels", *STUDENTS, "train_student@other")
    assert sorted(ran) == ["dump_labels", "train_student@other", "train_student@small_hard", "verify_labels"]
    assert repro(project, "--dry", "evaluate") == ["evaluate"]


def test_new_embeddings_train_the_student_that_learns_from_them_and_no_other(project: Path) -> None:
    """The student's `labels` are views alone, which stay as they are."""
    params = small_params()
    alone = {"labels": "none", "features": "embeddings", "hard_weight": 0.0, "soft_weight": 0.0}
    params["students"]["alone"] = student(**alone)
    params["encodings"]["embeddings"] = {"kind": "vector_float16"}
    targets = [*STUDENTS, "train_student@alone"]
    assert repro(write_params(project, params).parent, *targets) == ["dump_labels", "train_student@alone"]
    params["encodings"]["embeddings"] = {"kind": "vector_int8"}
    assert repro(write_params(project, params).parent, *targets) == ["dump_labels", "train_student@alone"]


def test_what_is_no_longer_exported_is_no_longer_reported(project: Path) -> None:
    assert "model_int8.onnx" in (project / "reports/report.md").read_text()
    write_params(project, small_params() | {"exports": []})
    assert repro(project) == ["report"]
    assert "model_int8.onnx" not in (project / "reports/report.md").read_text()


def test_a_grid_of_experiments_trains_one_student_and_runs_no_teacher(project: Path) -> None:
    """What docs/experiments.md says, with a key that the row has and one that it takes from the
    defaults. Of two queued experiments one is run: each takes DVC ten seconds.
    """
    params = small_params()
    params["students_defaults"] = {"hard_weight": params["students"]["small"].pop("hard_weight")}
    write_params(project, params)
    (project / ".dvc/config.local").unlink()
    (project / ".gitignore").write_text(".dvc/tmp\n.dvc/cache\n/work\n/data\n__pycache__\n")
    git = ["git", "-c", "user.name=nobody", "-c", "user.email=nobody@example.com"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first results"]):
        run(project, *git, *arguments)
    target = "train_student@small"
    grid = ["-S", "students.small.temperature=1,4", "-S", "+students.small.hard_weight=0.25"]
    queued = re.findall(
        r"Queued experiment '(.*?)'", run_warm(project, "dvc", "exp", "run", "--queue", *grid, target).stdout
    )
    assert len(queued) == 2
    run_warm(project, "dvc", "queue", "remove", queued[0])
    told = run_warm(project, "dvc", "exp", "run", "--run-all").stdout
    assert stages_run(told) == [target]
    assert told.count("Stage 'train_teacher' didn't change") == 1
    shown = list(csv.DictReader(io.StringIO(run_warm(project, "dvc", "exp", "show", "--only-changed", "--csv").stdout)))
    found = {
        (row["students.small.temperature"], row["students.small.hard_weight"]) for row in shown if row["Experiment"]
    }
    assert found in ({("1", "0.25")}, {("4", "0.25")})
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
    targets = [*STUDENTS, "export@small"]
    assert repro(project, *targets) == ["train_teacher", "dump_labels", "train_student@small", "export@small"]


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
    params["students"]["small"]["fit"] |= {"epochs": 3, "checkpoint_seconds": 0.0}
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


def damaged(path: Path) -> None:
    """Flips a bit where the file lies, through all of its names, and leaves its time as it was."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def cache_is_whole(folder: Path) -> bool:
    copies = [path for path in (folder / ".dvc/cache/files/md5").glob("??/*") if path.is_file()]
    named = [(path, f"{path.parent.name}{path.name}".removesuffix(".dir")) for path in copies]
    return bool(named) and all(hashlib.md5(path.read_bytes()).hexdigest() == name for path, name in named)


def read_image(prepared: Path) -> None:
    ImageDataset(prepared).stream("val").take(np.zeros(1, np.int64))


def read_store(path: Path) -> None:
    store = StoreReader(path)
    for _, fault in store.check():
        if fault:
            raise fault


READERS: dict[str, Callable[[Path], object]] = {
    "data/prepare/manifest.json": lambda path: ImageDataset(path.parent),
    "data/prepare/val.zarr/images/c/0/0/0/0": lambda path: read_image(path.parents[6]),
    "data/train_teacher/meta.json": lambda path: read_model(path.parent, made_by="train_teacher"),
    "data/dump_labels/dense8.zarr/log_prob_codes/c/0/0/0": lambda path: read_store(path.parents[4]),
    "data/dump_labels/dense16.zarr/zarr.json": lambda path: read_store(path.parent),
    "data/train_student/small/meta.json": lambda path: read_model(path.parent, made_by="train_student@small"),
}


def test_what_each_error_line_names_to_do_repairs_output_and_cache(project: Path) -> None:
    """Every damage goes through hard links, so that output, DVC's copy and second name have it."""
    before, outputs = files_of(project / "data"), {*READERS}
    named: dict[str, None] = {}
    for name in outputs:
        path = project / name
        assert path.stat().st_nlink >= 3, f"{name} is not linked"
        damaged(path)
    for name, read in READERS.items():
        with pytest.raises(PipelineError) as fault:
            read(project / name)
        named |= dict.fromkeys(re.findall(r"`([^`]*)`", str(fault.value)))
    repair = "potstill repair"
    assert {each for each in named if not each.startswith("dvc repro")} == {repair, "potstill labels repair"}
    stages = [each.removeprefix("dvc repro ") for each in named if each.startswith("dvc repro ")]
    told = run_warm(project, "stages.repair").stderr
    assert told.count("without a whole copy") == len({*stages}) == 4, told
    assert sorted(repro(project, *stages)) == sorted(stages)
    assert files_of(project / "data") == before
    assert cache_is_whole(project)
    assert {*repro(project)} <= {"evaluate", "report"}  # which show the seconds of this training


def test_repaired_labels_are_whole_in_the_cache_too_and_what_is_lost_comes_back_from_there(project: Path) -> None:
    before = files_of(project / "data")
    damaged(project / "data/dump_labels/dense8.zarr/log_prob_codes/c/0/0/0")
    assert "whole again" in run_warm(project, "stages.repair_labels").stderr
    assert cache_is_whole(project)
    (project / "data/train_teacher/weights.safetensors").unlink()
    shutil.rmtree(project / "data/dump_labels/top2.zarr/classes")
    assert "whole again" in run_warm(project, "stages.repair").stderr
    assert files_of(project / "data") == before
    run_warm(project, "dvc", "checkout")
    assert repro(project) == []
    assert files_of(project / "data") == before
    newer = project / "data/train_student/small/meta.json"
    newer.unlink()
    newer.write_text("made by hand since")
    assert "left as it is" in run_warm(project, "stages.repair").stderr
    assert newer.read_text() == "made by hand since"


def test_on_a_fresh_machine_a_changed_student_needs_what_was_pushed_and_no_teacher(
    project: Path, tmp_path: Path
) -> None:
    """What docs/machines.md says: `dvc pull`, then `dvc repro`."""
    remote = f"[core]\n    no_scm = true\n    remote = cellar\n['remote \"cellar\"']\n    url = {tmp_path}/cellar\n"
    (project / ".dvc/config.local").write_text(remote)
    run_warm(project, "dvc", "push")
    for left_behind in ("data", "work", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(project / left_behind)
    run_warm(project, "dvc", "pull")
    params = small_params()
    params["students"]["small"]["fit"]["learning_rate"] = 0.02
    write_params(project, params)
    assert repro(project, "evaluate") == ["train_student@small", "evaluate"]
