"""Clicks in small, from a table of ratings to students: a boosted teacher, views with columns
dropped and swapped, a split by time.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from kinds import kind_params
from project import student, write_params

from pipeline.core.errors import ModelError, PipelineError, StoreError
from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader
from pipeline.models.saved import read_model
from pipeline.signals.binary_metrics import set_metrics
from stages import dump_labels, prepare, train_student, train_teacher, verify_labels

USERS, ITEMS = 16, 20
DROP = {"kind": "drop_columns", "share": 0.1, "columns": None}
SWAP = {"kind": "swap_columns", "share": 0.2, "columns": [0, 1]}


def write_tables(folder: Path) -> dict[str, Any]:
    """Writes ratings of users who like one of two sorts of items, and returns the source."""
    rng = random.Random(0)
    users = [["user", "age"], *([f"u{number}", 20 + number] for number in range(USERS))]
    rows: list[list[object]] = [["user", "item", "stars", "time"]]
    for time in range(700):
        user, item = rng.randrange(USERS), rng.randrange(ITEMS)
        likes = (user + item) % 2 == 0
        rows.append([f"u{user}", f"i{item}", rng.choice([4, 5] if likes else [1, 2, 3]), time])
    for name, table in (("ratings", rows), ("users", users)):
        (folder / f"{name}.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in table))
    return {
        "kind": "rows",
        "path": str(folder / "ratings.csv"),
        "lookup": {"user": str(folder / "users.csv")},
        "label_column": "stars",
        "positive": {"class_name": "click", "at_least": 4.0},
        "split_by": {"column": "time", "val": 0.15, "test": 0.2},
    }


def rows_params(folder: Path) -> dict[str, Any]:
    params = kind_params("row")
    params["prepare"] |= {"source": write_tables(folder), "table": {"rare_below": 2}}
    params["train_teacher"] |= {"model": "deepfm_small", "model_settings": {"width": 32, "depth": 1, "embedding": 8}}
    params["train_teacher"]["fit"] |= {"epochs": 10, "batch_size": 32}
    params["train_teacher"]["views"] = {"seed": 3, "plain_first": False, "operations": [DROP | {"share": 0.05}]}
    params["dump_labels"]["views"] = {"seed": 4, "plain_first": True, "operations": [DROP, SWAP]}
    params["encodings"] = {
        "odds8": {"kind": "log_odds_uint8", "range_nats": 16.0, "steps": 127},
        "none": {"kind": "none"},
    }
    row = student(**{"model": "mlp_small", "model_settings": {"width": 64, "depth": 1}, "labels": "odds8"})
    row |= {
        "loss": {"kind": "binary_kd"},
        "temperature": 1.0,
        "fit": row["fit"] | {"epochs": 10, "batch_size": 32, "learning_rate": 0.03},
    }
    deepfm = {"model": "deepfm_small", "model_settings": {"width": 16, "depth": 1, "embedding": 4}}
    params["students"] = {"mlp": row, "deepfm": row | deepfm}
    return params


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder after the stages from `prepare` to the students."""
    folder = tmp_path_factory.mktemp("rows")
    params = rows_params(folder)
    path, data, work = write_params(folder, params), folder / "data", folder / "work"
    prepare.main(path, folder / "raw", data / "prepare", work)
    train_teacher.main(path, data / "prepare", data / "teacher", folder / "reports", work)
    dump_labels.main(path, data / "prepare", data / "teacher", data / "stores", work)
    verify_labels.main(path, data / "prepare", data / "teacher", data / "stores", folder / "reports/verify.json")
    for name in params["students"]:
        train_student.main(name, path, data / "prepare", str(data / "stores"), data / "students", folder, work)
    return folder


def test_the_store_is_of_these_rows(whole: Path) -> None:
    manifest = StoreReader(whole / "data/stores/odds8.zarr").manifest
    data = ImageDataset(whole / "data/prepare").manifest
    assert manifest.signal == "binary"
    assert (data.input or {})["columns_digest"] in str(manifest.samples)
    assert not any(
        store["faults"] for store in json.loads((whole / "reports/verify.json").read_text())["stores"].values()
    )


def test_students_know_who_clicks_later(whole: Path) -> None:
    test = ImageDataset(whole / "data/prepare").split("test")
    for name in ("teacher", "students/mlp", "students/deepfm"):
        logits = read_model(whole / "data" / name, made_by="")(test.inputs).detach()
        assert set_metrics(logits, test.hard_labels)["auc"] > 0.8, name


@pytest.mark.parametrize(
    "changes",
    [{"table": {"rare_below": 40}}, {"table": {"rare_below": 2, "bins": 4}}, {"leave_out": ["age"]}],
    ids=["names", "bins", "columns"],
)
def test_another_vocabulary_is_refused_before_the_first_step(
    whole: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    params, data = rows_params(tmp_path), whole / "data"
    if "leave_out" in changes:
        params["prepare"]["source"] |= changes
    else:
        params["prepare"] |= changes
    path = write_params(tmp_path, params)
    prepare.main(path, tmp_path / "raw", tmp_path / "prepare", tmp_path / "work")
    stores, out = str(data / "stores"), tmp_path / "out"
    line(
        StoreError,
        "its labels are of row",
        train_student.main,
        "mlp",
        path,
        tmp_path / "prepare",
        stores,
        out,
        out,
        out,
    )
    teacher = data / "teacher"
    line(ModelError, "was trained for other rows", dump_labels.main, path, tmp_path / "prepare", teacher, out, tmp_path)
    assert not (out / "mlp").exists()


def line(kind: type[PipelineError], found: str, call: Any, *arguments: Any) -> None:
    with pytest.raises(kind, match=found) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 500
