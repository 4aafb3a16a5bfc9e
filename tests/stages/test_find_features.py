"""The stage `find_features`: a file for each student, which changes with its embeddings."""

import json
from pathlib import Path
from typing import Any

import pytest
from project import write_params

from stages import find_features


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Makes a folder with two stores, of which the stage reads no more than their manifests."""
    for name in ("wide", "narrow"):
        (tmp_path / f"data/{name}.zarr").mkdir(parents=True)
        (tmp_path / f"data/{name}.zarr/zarr.json").write_text(name)
    return tmp_path


def found(folder: Path, students: dict[str, Any], **defaults: Any) -> dict[str, dict[str, Any]]:
    """Runs the stage; returns what it wrote, by student."""
    params = write_params(folder, {"students": students, "students_defaults": defaults})
    find_features.main(params, folder / "data", folder / "out")
    return {path.stem: json.loads(path.read_text()) for path in (folder / "out").iterdir()}


def test_each_student_has_the_store_that_its_row_or_the_defaults_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"own": {"features": "wide"}, "none": {"features": None}, "default": {}, "missing": {"features": "gone"}}
    files = found(folder, rows, features="narrow")
    assert {name: file["features"] for name, file in files.items()} == {
        "own": "wide",
        "none": None,
        "default": "narrow",
        "missing": "gone",
    }
    assert {name for name, file in files.items() if file["fingerprint"]} == {"own", "default"}
    assert "3 of 4 students" in capsys.readouterr().err


def test_a_file_changes_with_its_store_alone_and_goes_with_its_student(folder: Path) -> None:
    rows = {"own": {"features": "wide"}, "other": {"features": "narrow"}, "none": {}}
    before = found(folder, rows)
    (folder / "data/wide.zarr/zarr.json").write_text("of another teacher")
    after = found(folder, {name: rows[name] for name in ("own", "other")})
    assert after.keys() == {"own", "other"}
    assert (after["own"] != before["own"], after["other"] == before["other"]) == (True, True)
