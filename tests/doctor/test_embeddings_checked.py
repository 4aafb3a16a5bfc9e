"""Rows of embeddings in the check-up: the bytes of their stores, and who learns from them."""

from pathlib import Path
from typing import Any

import pytest
from project import student
from teachers import edit_params, make_project, run_teacher

from pipeline.core.config import validate
from pipeline.core.errors import ConfigError
from pipeline.doctor.embeddings import embedding_bytes, find_features
from pipeline.doctor.findings import Findings
from pipeline.doctor.folders import Folders
from pipeline.labels.encodings import LabelSpace, build_row
from pipeline.student.settings import TrainStudent

SPACE = LabelSpace(4, 1.0, (1.0, 2.0))
SKETCH = {"kind": "sketch", "dimensions": 6, "seed": 1, "values": "int8"}
ROWS = {
    name: build_row(row, name)
    for name, row in {"soft": {"kind": "dense_float16"}, "half": {"kind": "vector_float16"}, "six": SKETCH}.items()
}


def test_bytes_are_those_of_the_teachers_embedding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, findings = make_project(tmp_path, {}), Findings()
    folders = Folders(
        folder / "raw", folder / "data/prepare", folder / "data/train_teacher", folder / "l", folder / "w"
    )
    assert embedding_bytes(ROWS, SPACE, folders, findings, "encodings") == {}
    assert "no teacher yet, so that the bytes of half, six are not counted" in capsys.readouterr().out
    edit_params(folder, "train_teacher.fit", epochs=1)
    run_teacher(folder)
    found = embedding_bytes(ROWS, SPACE, folders, findings, "encodings")
    assert {name: each.size for name, each in found.items()} == {"half": 64, "six": 6}
    wide = {"wide": build_row(SKETCH | {"dimensions": 33}, "wide")}
    embedding_bytes(wide, SPACE, folders, findings, "encodings")
    assert findings.counts["error"] == 1
    assert "encodings.wide.dimensions: 33, of embeddings of 32" in capsys.readouterr().out


@pytest.mark.parametrize(("features", "fits"), [(None, True), ("half", True), ("soft", False), ("other", False)])
def test_features_name_a_store_of_embeddings(features: str | None, fits: bool, tmp_path: Path) -> None:
    row: Any = validate(TrainStudent, student(features=features), "students.a")
    if fits:
        return find_features(row, ROWS, tmp_path, "students.a")
    with pytest.raises(ConfigError, match=rf"students.a.features: '{features}'; expected a store of .*'half', 'six'"):
        find_features(row, ROWS, tmp_path, "students.a")
    return None
