"""A new project of texts, sounds or rows begins with settings that the doctor accepts."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from raw_kinds import write_raw

from pipeline.core.closure import TOP
from pipeline.core.config import load_params
from pipeline.core.errors import ConfigError
from pipeline.doctor import new_project as creation
from pipeline.doctor.announcement import announce
from pipeline.doctor.checkup import check_up
from pipeline.doctor.findings import Findings
from pipeline.doctor.folders import Folders
from pipeline.doctor.inputs import INPUTS
from pipeline.doctor.new_project import Wanted, create_project
from pipeline.doctor.params import read_params

NAMES = ["text", "sound", "table"]


@pytest.fixture(autouse=True)
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a small project that a new one is made of."""
    old = tmp_path / "old"
    shutil.copytree(TOP / "docs/params", old / "docs/params")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(TOP / name, old / name)
    monkeypatch.setattr(creation, "TOP", old)
    monkeypatch.chdir(tmp_path)
    return old


def place(name: str, folder: Path) -> str:
    """Writes samples of an input and returns where they are."""
    folder.mkdir(exist_ok=True)
    return str(write_raw(folder, INPUTS[name].kind, 60)["path"])


def read(target: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Returns the settings of a project, which the doctor accepts."""
    capsys.readouterr()
    findings = Findings()
    read_params(target / "params.yaml", findings)
    assert findings.counts["error"] == 0, capsys.readouterr().out
    return load_params(target / "params.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_samples_that_are_there_are_found_and_the_doctor_accepts_the_settings(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    created = create_project(tmp_path / "new", Wanted(place(name, tmp_path / "raw"), input=name), 30.0)
    said = "\n".join(announce(created))
    assert "class 0" in said
    assert "warning" not in said
    assert f"Settings: those of {INPUTS[name].params}" in said
    assert "docs/inputs.md" in said
    monkeypatch.chdir(tmp_path / "new")
    findings = Findings()
    folders = Folders(*(tmp_path / each for each in ("raw", "data", "teacher", "labels", "work")))
    capsys.readouterr()
    check_up(Path("params.yaml"), folders, findings, quick=True)
    assert findings.counts["error"] == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_samples_may_come_later(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = "data/raw/mine" if name == "sound" else "data/raw/mine.csv"
    created = create_project(tmp_path / "new", Wanted(path, input=name), 30.0)
    assert f"no samples are at {path} in the new folder yet" in "\n".join(announce(created))
    params = read(tmp_path / "new", capsys)
    assert params["prepare"]["source"] == {"kind": created.row["kind"], "path": path}
    assert {row["labels"] for row in params["students"].values()} == {"dense8", "none"}
    assert "explains every key" in (tmp_path / "new/params.yaml").read_text()
    assert (tmp_path / "new/docs/params/images.yaml").read_bytes() == (TOP / "params.yaml").read_bytes()


def test_texts_with_several_labels_have_settings_for_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place("text", tmp_path / "raw")
    create_project(tmp_path / "new", Wanted(path, task="multilabel", input="text"), 30.0)
    params = read(tmp_path / "new", capsys)
    assert params["prepare"]["source"]["separator"] == "|"
    assert params["students_defaults"]["loss"]["kind"] == "binary_kd"
    assert {row["labels"] for row in params["students"].values()} == {"odds", "none"}


@pytest.mark.parametrize(
    ("wanted", "parts"),
    [
        (Wanted("data/raw/x", input="video"), ["INPUT", "'video'", "image, text, sound, table"]),
        (Wanted("data/raw/x", "folder", input="text"), ["SOURCE", "no texts", "text_table, text_folder"]),
        (Wanted("data/raw/x", "rows"), ["SOURCE", "no images", "folder"]),
        (Wanted("data/raw/x.csv", task="segmentation", input="table"), ["TASK", "segmentation"]),
        (Wanted(input="sound"), ["DATA", "not given"]),
    ],
    ids=["unknown", "images for texts", "rows for images", "masks of a table", "no place"],
)
def test_what_does_not_go_together_is_refused(wanted: Wanted, parts: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        create_project(tmp_path / "new", wanted, 30.0)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert not (tmp_path / "new").exists()
