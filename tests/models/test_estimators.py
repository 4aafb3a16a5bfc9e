"""Estimators as teachers of rows: their own probabilities, the same when they are read, no code in
their files.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import torch
from kinds import COLUMNS, kind_params, make_kind_split, write_kind
from project import write_params
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from pipeline.core.errors import ConfigError, ModelError, PipelineError
from pipeline.core.tensors import read_tensors
from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import InputKindName
from pipeline.data.row_columns import ColumnType
from pipeline.models import count_parameters
from pipeline.models.estimator_files import read_estimators, write_estimators
from pipeline.models.estimators import FILE, FLOOR, EstimatorNetwork, Fitting
from pipeline.models.saved import read_model
from stages import dump_labels, train_student, train_teacher, verify_labels

FOREST = "sklearn/RandomForestClassifier"
SIZES = [column["num_codes"] for column in COLUMNS]
NUMBERS: list[ColumnType] = ["number"] * 3
SPLIT = make_kind_split("row", 200)
ROWS, LABELS = SPLIT.inputs.numpy(), SPLIT.hard_labels.numpy()


def fitted(folder: Path, types: list[ColumnType] = NUMBERS, labels: np.ndarray = LABELS, **changes: Any) -> Path:
    about = {"name": FOREST, "settings": {"n_estimators": 7}, "num_classes": 3} | changes
    Fitting(**about, types=types, sizes=SIZES, seed=5).fit(ROWS, labels, folder)
    return folder / FILE


def test_logits_are_the_logarithms_of_its_own_probabilities(tmp_path: Path) -> None:
    network = EstimatorNetwork(fitted(tmp_path), FOREST)
    ours = RandomForestClassifier(n_estimators=7, random_state=5).fit(ROWS.astype(float), LABELS)
    expected = np.log(np.maximum(ours.predict_proba(ROWS.astype(float)), FLOOR))
    assert network(SPLIT.inputs.long()).numpy() == pytest.approx(expected, abs=1e-5)
    assert torch.isfinite(network(torch.zeros(2, 3, dtype=torch.int64))).all()  # all is missing
    assert network(SPLIT.inputs[:0].long()).shape == (0, 3)


def test_independent_classes_have_an_estimator_each_of_the_entries_that_are_known(tmp_path: Path) -> None:
    entries = np.stack([LABELS == 0, LABELS != 1], axis=1).astype(np.int8)
    entries[:50, 1] = -1
    network = EstimatorNetwork(fitted(tmp_path, labels=entries, num_classes=2), FOREST)
    ours = RandomForestClassifier(n_estimators=7, random_state=5).fit(ROWS[50:].astype(float), entries[50:, 1])
    yes = np.clip(ours.predict_proba(ROWS.astype(float))[:, 1], FLOOR, 1 - FLOOR)
    assert network(SPLIT.inputs.long())[:, 1].numpy() == pytest.approx(np.log(yes / (1 - yes)), abs=1e-4)


def test_a_category_is_the_mean_of_its_labels_whatever_its_code(tmp_path: Path) -> None:
    """The codes of the middle column are shuffled: an order of them says nothing."""
    types: list[ColumnType] = ["number", "category", "number"]
    network = EstimatorNetwork(fitted(tmp_path, types, name="sklearn/LogisticRegression", settings={}), FOREST)
    right = network(SPLIT.inputs.long()).argmax(dim=1) == SPLIT.hard_labels
    plain = LogisticRegression(max_iter=1000).fit(ROWS[:, :1].astype(float), LABELS).score(ROWS[:, :1], LABELS)
    assert right.double().mean() > 0.9 > plain + 0.2


def test_a_class_without_training_rows_has_the_least_probability(tmp_path: Path) -> None:
    labels = np.where(LABELS == 1, 0, LABELS)
    logits = EstimatorNetwork(fitted(tmp_path, labels=labels), FOREST)(SPLIT.inputs.long())
    assert (logits[:, 1] == np.float32(np.log(FLOOR))).all()


def test_files_are_the_same_bytes_and_hold_no_code(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = fitted(tmp_path / "a"), fitted(tmp_path / "b")
    assert one.read_bytes() == other.read_bytes()
    with zipfile.ZipFile(one) as archive:
        assert {Path(member).suffix for member in archive.namelist()} <= {".json", ".npy", ".npz"}
        assert all(member.date_time[0] == 1980 for member in archive.infolist())


def test_a_file_that_names_another_type_is_refused(tmp_path: Path) -> None:
    path = fitted(tmp_path)
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    schema = json.loads(members["schema.json"])
    schema["__class__"], schema["__module__"] = "Popen", "subprocess"
    members["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    with pytest.raises(ModelError, match=r"names the type subprocess\.Popen"):
        read_estimators(path, FOREST, None)
    path.write_bytes(b"no zip")
    with pytest.raises(ModelError, match="can't be read"):
        read_estimators(path, FOREST, None)


def test_what_a_file_without_code_can_not_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"pathlib\.PosixPath|can't be written without pickle"):
        write_estimators(tmp_path / FILE, {"fitted": [tmp_path]}, FOREST)
    assert not (tmp_path / FILE).exists()


USERS = """
import numpy as np

class Often:
    \"\"\"The shares of classes among the rows of each code of the second column.\"\"\"

    def __init__(self, num_classes, column):
        self.num_classes, self.column = num_classes, column

    def fit(self, x, y):
        self.classes_ = np.arange(self.num_classes)
        self.table = np.ones((100, self.num_classes))
        np.add.at(self.table, (x[:, self.column].astype(int), y), 1)
        return self

    def predict_proba(self, x):
        rows = self.table[x[:, self.column].astype(int)]
        return rows / rows.sum(axis=1, keepdims=True)

def build(num_classes, sizes, column=1):
    assert sizes == [5, 6, 8]
    return Often(num_classes, column)
"""


def test_an_object_of_a_users_file_is_a_teacher(tmp_path: Path) -> None:
    (tmp_path / "often.py").write_text(USERS)
    stages(tmp_path, f"sklearn/{tmp_path}/often.py:build", {})
    assert (tmp_path / "data/teacher/network.py").read_text() == USERS
    (tmp_path / "often.py").write_text("raise SystemExit")  # the copy is what counts
    model = read_model(tmp_path / "data/teacher", made_by="train_teacher")
    logits = model(SPLIT.inputs)
    assert (logits.argmax(dim=1) == SPLIT.hard_labels).double().mean() > 0.9


def estimator_params(model: str, settings: dict[str, Any], kind: InputKindName = "row") -> dict[str, Any]:
    """Returns small params whose teacher is an estimator."""
    params = kind_params(kind)
    teacher = params["train_teacher"]
    teacher |= {"model": model, "model_settings": settings, "input": None}
    teacher["fit"] |= {"epochs": 0}
    teacher["views"] = teacher["views"] | {"operations": []}
    return params


def stages(folder: Path, model: str, settings: dict[str, Any]) -> Path:
    """Runs the stages that an estimator goes through, and returns the params file."""
    params = estimator_params(model, settings)
    path, data = write_params(folder, params), folder / "data"
    write_kind(data / "prepare", "row")
    teacher, stores, work = data / "teacher", data / "stores", folder / "work"
    train_teacher.main(path, data / "prepare", teacher, folder / "reports", work)
    dump_labels.main(path, data / "prepare", teacher, stores, work, None, None)
    verify_labels.main(path, data / "prepare", teacher, stores, folder / "reports/verify.json")
    return path


def test_students_learn_from_a_forest(tmp_path: Path) -> None:
    path, data = stages(tmp_path, FOREST, {"n_estimators": 20}), tmp_path / "data"
    told = json.loads((tmp_path / "reports/train_teacher.json").read_text())
    assert told["val"]["accuracy"] > 0.9
    assert told["seconds"] >= 0
    assert not any(
        store["faults"] for store in json.loads((tmp_path / "reports/verify.json").read_text())["stores"].values()
    )
    model = read_model(data / "teacher", made_by="train_teacher")
    assert count_parameters(model) > 1000
    train_student.main("small", path, data / "prepare", str(data / "stores"), data / "students", tmp_path, tmp_path)
    student = read_model(data / "students/small", made_by="train_student")
    test = ImageDataset(data / "prepare").split("test")
    agreed = student(test.inputs).argmax(dim=1) == model(test.inputs).argmax(dim=1)
    assert agreed.double().mean() > 0.9
    assert read_tensors(data / "teacher/weights.safetensors", made_by="").keys() == {"network.floor"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"model": "sklearn/RandomForest"}, r"no classifier 'RandomForest'; .*RandomForestClassifier"),
        ({"model": "sklearn/LinearSVC"}, "a LinearSVC has no 'predict_proba'"),
        ({"model_settings": {"trees": 3}}, "unknown setting 'trees'"),
        ({"model_settings": {"n_estimators": -1}}, r"fails \(InvalidParameterError: "),
        ({"model": "lightgbm/LGBMClassifier"}, "lightgbm can't be imported|has no classifier"),
    ],
    ids=["name", "method", "setting", "value", "library"],
)
def test_what_can_not_be_fitted_is_a_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    params = estimator_params(FOREST, {})
    params["train_teacher"] |= changes
    refused(tmp_path, params, line, ModelError)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"fit": {"epochs": 3}}, "fit.epochs: 3; expected 0: an estimator is fitted at once"),
        ({"label_smoothing": 0.1}, "label_smoothing: 0.1; expected 0.0"),
        ({"class_balance": 1.0}, r"class_balance: 1.0; .*class_weight: balanced"),
        ({"views": {"operations": [{"kind": "drop_columns", "share": 0.1, "columns": None}]}}, "on rows as they are"),
        ({"new_head": True}, "weights: null, new_head: false"),
    ],
    ids=["epochs", "smoothing", "balance", "views", "head"],
)
def test_settings_that_an_estimator_has_not_are_refused(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    params = estimator_params(FOREST, {})
    teacher = params["train_teacher"]
    for key, value in changes.items():
        teacher[key] = teacher[key] | value if isinstance(value, dict) else value
    refused(tmp_path, params, line, ConfigError)


def refused(folder: Path, params: dict[str, Any], line: str, kind: type[PipelineError]) -> None:
    write_kind(folder / "prepare", "row", (60, 30, 30))
    with pytest.raises(kind, match=line) as caught:
        train_teacher.main(write_params(folder, params), folder / "prepare", folder / "out", folder, folder / "work")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 500


def test_an_estimator_is_no_student_and_not_for_images(tmp_path: Path) -> None:
    params = kind_params("row")
    params["students"]["small"] |= {"model": FOREST, "model_settings": {}}
    write_kind(tmp_path / "prepare", "row", (60, 30, 30))
    path = write_params(tmp_path, params)
    with pytest.raises(ConfigError, match="it can't be a student"):
        train_student.main("small", path, tmp_path / "prepare", str(tmp_path), tmp_path, tmp_path, tmp_path)
    params = estimator_params(FOREST, {}, "waveform")
    write_kind(tmp_path / "sounds", "waveform", (60, 30, 30))
    with pytest.raises(ModelError, match="is for rows, and the data is sounds"):
        train_teacher.main(write_params(tmp_path, params), tmp_path / "sounds", tmp_path / "o", tmp_path, tmp_path)


def test_skops_is_not_needed_where_there_is_no_estimator() -> None:
    assert skops.io  # imported here: the room must not
    import subprocess
    import sys

    script = "import sys, stages.train_student; sys.exit(str({'sklearn', 'skops', 'scipy'} & set(sys.modules) or 0))"
    from pipeline.core.closure import TOP

    done = subprocess.run([sys.executable, "-c", script], cwd=TOP, capture_output=True, text=True)
    assert done.stderr.strip() == "0"
