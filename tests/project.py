"""A small project on disk: the real stages and DAG, the digits data, networks that train in a
second.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from warm_python import WarmPython

from pipeline.core.closure import TOP
from pipeline.core.sealed import read_sealed, write_sealed

_FIT = {
    "epochs": 2,
    "batch_size": 64,
    "accumulate_batches": 1,
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "weight_decay": 0.01,
    "schedule": "one_cycle",
    "warmup_fraction": 0.2,
    "clip_norm": 5.0,
    "ema_decay": 0.9,
    "patience_epochs": None,
    "freeze_epochs": 0,
    "layer_decay": 1.0,
    "precision": "float32",
    "compile": False,
    "checkpoint_seconds": 60.0,  # none but the last: one of every step takes 40 % of the time
}
_VIEWS = {"seed": 1, "plain_first": False, "operations": [{"kind": "pad_crop", "pad_px": 1}]}


def student(**changes: Any) -> dict[str, Any]:
    """Returns a row of the table `students`."""
    row = {
        "model": "convnet_small",
        "model_settings": {"width": 4, "depth": 1},
        "weights": None,
        "new_head": False,
        "input": None,
        "labels": "dense8",
        "twin_of": None,
        "hard_weight": 0.5,
        "soft_weight": 0.5,
        "temperature": 2.0,
        "loss": {"kind": "kd", "standardize": False},
        "label_smoothing": 0.0,
        "class_balance": 0.0,
        "seed": 0,
        "device": "cpu",
        "memory_budget_mb": 100,
        "group": None,
        "fit": dict(_FIT),
    }
    return row | changes


def small_params() -> dict[str, Any]:
    """Returns all of params.yaml, small."""
    return {
        "launcher": dict.fromkeys(("prepare", "train_teacher", "dump_labels", "train_student"), "python"),
        "prepare": {
            "source": {"kind": "digits"},
            "image_px": None,
            "channels": None,
            "storage": "pixels",
            "longest_px": None,
            "broken": "refuse",
            "val_fraction": 0.1,
            "test_fraction": 0.1,
            "seed": 0,
        },
        "train_teacher": {
            "model": "convnet_small",
            "model_settings": {"width": 8, "depth": 1},
            "weights": None,
            "new_head": False,
            "input": None,
            "teacher_classes": None,
            "class_map": None,
            "seed": 0,
            "device": "cpu",
            "memory_budget_mb": 100,
            "label_smoothing": 0.0,
            "class_balance": 0.0,
            "views": dict(_VIEWS),
            "fit": dict(_FIT),
        },
        "dump_labels": {
            "num_views": 2,
            "temperature": 1.0,
            "temperatures": [1.0, 2.0],
            "pilot_labels": 500,
            "batch_size": 128,
            "block_samples": 256,
            "num_canaries": 32,
            "precision": "auto",
            "compile": False,
            "memory_budget_mb": 4096,
            "device": "cpu",
            "views": dict(_VIEWS),
        },
        "encodings": {
            "dense16": {"kind": "dense_float16"},
            "dense8": {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255},
            "top2": {"kind": "topk", "k": 2, "levels": 64, "range_nats": 40.0, "tail": "prior", "tail_classes": 256},
            "none": {"kind": "none"},
        },
        "verify_labels": {
            "num_labels": 200,
            "seed": 0,
            "kl_tolerance_nats": 1.0e-3,
            "accuracy_tolerance": 0.002,
            "batch_size": 128,
            "device": "cpu",
        },
        "students_defaults": {},
        "students": {
            "small": student(),
            "small_hard": student(labels="none", twin_of="small", hard_weight=1.0, soft_weight=0.0),
        },
        "evaluate": {
            "batch_size": 100,
            "device": "cpu",
            "robustness": {"severity": 3, "num_images": 150, "seed": 0},
            "latency_repeats": 3,
        },
        "explain": {
            "num_suspects": 4,
            "num_disagreed": 4,
            "num_attributed": 6,
            "num_views": 2,
            "patch_share": 0.25,
            "patch_steps": 4,
            "batch_size": 200,
            "device": "cpu",
        },
        "exports": ["small"],
        "export": {
            "num_calibration_images": 128,
            "logit_tolerance": 1.0e-4,
            "int8": True,
            "aware": {"steps": 4, "learning_rate": 0.001},
            "int8_seconds": 600.0,
            "max_int8_drop_points": 0.5,
            "num_checked_images": 100,
            "reduce_range": None,
            "executorch": False,
            "latency_repeats": 5,
        },
    }


def write_params(folder: Path, params: dict[str, Any]) -> Path:
    """Writes a params.yaml at once: workers of one project each write it, and read it as well."""
    path = folder / "params.yaml"
    partial = folder / f"params.{os.getpid()}.yaml"
    with partial.open("w") as file:
        YAML(typ="safe", pure=True).dump(params, file)
    return partial.replace(path)


def make_project(folder: Path, params: dict[str, Any]) -> Path:
    """Returns a copy of the project's code and DAG in `folder`, ready for DVC, with these
    params."""
    for name in ("networks", "pipeline", "stages"):
        shutil.copytree(TOP / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".dvc").mkdir()
    for name in ("dvc.yaml", ".dvcignore", ".dvc/config"):
        shutil.copy(TOP / name, folder / name)
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    write_params(folder, params)
    return folder


def environment() -> dict[str, str]:
    """Returns the variables of a child process: its own folder comes first, `python` is this one,
    one thread.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


def run(
    folder: Path, *command: str, check: bool = True, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a project's folder."""
    around = environment() if env is None else env
    done = subprocess.run(command, cwd=folder, env=around, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@cache
def _warm_python() -> WarmPython:
    return WarmPython(environment())


def run_warm(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m <arguments>`, `dvc` or a stage, by a process that has imported torch and DVC;
    so are the stages that DVC starts. Not for what is killed.
    """
    return run(folder, "python", "-m", *arguments, env=warm_environment())


def warm_environment() -> dict[str, str]:
    """Returns the variables with which `python -m` and `torchrun` need not import torch."""
    return environment() | {"PATH": f"{_warm_python().folder}{os.pathsep}{environment()['PATH']}"}


def repro(folder: Path, *targets: str) -> list[str]:
    """Runs `dvc repro`; returns the stages that ran, in order."""
    return stages_run(run_warm(folder, "dvc", "repro", *targets).stdout)


def stages_run(told: str) -> list[str]:
    """Returns the stages that DVC told to run, without two that take a second: list_files always
    runs, find_features after every change of a student or of labels.
    """
    prefix = "Running stage '"
    names = [line.removeprefix(prefix).rstrip("':") for line in told.splitlines() if line.startswith(prefix)]
    return [name for name in names if name not in ("list_files", "find_features")]


def edit_sealed(path: Path, edit: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Changes a sealed JSON file as who wrote it could have."""
    write_sealed(path, edit(read_sealed(path, made_by="")))


def files_of(folder: Path) -> dict[str, bytes]:
    """Returns every file below a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def forget(folder: Path, out: str) -> None:
    """Deletes an output of `data/` and the finished result that would be put back in its place."""
    shutil.rmtree(folder / "data" / out)
    shutil.rmtree(folder / "work" / f"{out.replace('/', '-')}.kept", ignore_errors=True)
