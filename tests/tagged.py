"""A small project of independent classes on disk: images whose bright quarters are their classes,
and networks and labels that the real stages make of them.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from conftest import make_tagged_split
from project import small_params, student, write_params

from pipeline.preparation.write import write_dataset
from stages import dump_labels, train_student, train_teacher

NAMES = ("top left", "top right", "bottom left", "bottom right")
ODDS = {"kind": "log_odds_uint8", "range_nats": 16.0, "steps": 127}
TOP_ODDS = {"kind": "top_odds", "k": 2, "range_nats": 16.0, "steps": 127}


def tagged_params() -> dict[str, Any]:
    """Returns all of params.yaml for independent classes, small."""
    params = small_params()
    params["encodings"] = {
        "odds16": {"kind": "dense_float16"},
        "odds": dict(ODDS),
        "top": dict(TOP_ODDS),
        "none": {"kind": "none"},
    }
    row = student(labels="odds", loss={"kind": "binary_kd"})
    params["students"] = {
        "small": row,
        "small_hard": row | {"labels": "none", "twin_of": "small", "hard_weight": 1.0, "soft_weight": 0.0},
    }
    for settings in (params["train_teacher"], *params["students"].values()):
        settings["fit"] |= {"epochs": 3, "batch_size": 32, "checkpoint_seconds": 1e6}
    return params


def write_tagged(folder: Path, num_train: int = 400, unknown: float = 0.1) -> None:
    """Writes prepared images and the list of them; entry 1 of the first training image is wrong."""
    train = make_tagged_split(num_train, unknown=unknown)
    labels = train.hard_labels.clone()
    labels[0] = make_tagged_split(num_train).hard_labels[0]
    labels[0, 1] = 1 - labels[0, 1]
    splits = {
        "train": replace(train, hard_labels=labels),
        "val": make_tagged_split(100, seed=1),
        "test": make_tagged_split(100, seed=2),
    }
    write_dataset(folder / "data/prepare", "digits", NAMES, splits)
    rows = [f"{at:016x}\t{name}\t\timage {at}" for name, split in splits.items() for at in range(len(split))]
    (folder / "data/prepare/samples.tsv").write_text("\n".join(["sample_id\tsplit\tclass\tkey", *rows]) + "\n")


def make_tagged_project(folder: Path) -> Path:
    """Returns a folder with prepared images, a teacher, its stores and a student with its twin."""
    params, at = write_params(folder, tagged_params()), folder / "data"
    write_tagged(folder)
    prepared, reports, work = at / "prepare", folder / "reports", folder / "work"
    train_teacher.main(params, prepared, at / "train_teacher", reports, work)
    dump_labels.main(params, prepared, at / "train_teacher", at / "dump_labels", work, None, None)
    for name in ("small", "small_hard"):
        labels, out = at / "dump_labels", at / "train_student"
        train_student.main(name, params, prepared, str(labels), out, reports / "train_student", work)
    return folder


def linked_copy(project: Path, folder: Path) -> Path:
    """Returns a copy of a project whose files are second names: replaced, never changed."""
    return Path(shutil.copytree(project, folder, copy_function=os.link))
