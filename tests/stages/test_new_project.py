"""A new project has the code and none of the results; params and DAG name the place of its data."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project import files_of, run
from ruamel.yaml import YAML

from pipeline.core.closure import TOP
from pipeline.core.errors import PipelineError
from pipeline.doctor import new_project as creation
from stages import new_project

FILES = (
    "params.yaml",
    "dvc.yaml",
    "Makefile",
    "docs/own-data.md",
    ".dvc/config",
    "pipeline/core/config.py",
    "stages/prepare.py",
)
LEFT = ("reports/report.md", "dvc.lock", "data/prepare/manifest.json", ".git/HEAD", "work/scratch")


def read_yaml(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text())
    return content


@pytest.fixture(params=[True, False], ids=["git", "no git"])
def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a small project with results, in git or not."""
    top = tmp_path / "old"
    for name in FILES:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, top / name)
    for stage in read_yaml(top / "dvc.yaml")["stages"].values():
        for name in stage.get("do", stage)["deps"]:
            file = top / name if name.endswith(".py") else top / name / "__init__.py"
            if name.startswith(("pipeline/", "stages/")) and not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("# code\n")
    if request.param:
        if shutil.which("git") is None:
            pytest.skip("no git here")
        subprocess.run(["git", "init", "-q"], cwd=top, check=True)
        subprocess.run(["git", "add", "."], cwd=top, check=True)
    else:
        monkeypatch.setenv("PATH", "")
    for name in LEFT[:3] if request.param else LEFT:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("result")
    monkeypatch.setattr(creation, "TOP", top)
    monkeypatch.chdir(tmp_path)
    return top


def test_the_code_comes_along_and_the_results_do_not(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = old.parent / "pets"
    new_project.main(str(target), path="data/raw/pets")
    code = {
        name: content for name, content in files_of(old).items() if name.endswith((".py", ".md")) and "re" not in name
    }
    there = files_of(target)
    assert all(
        there[name] == content for name, content in code.items() if not name.startswith(("data", "reports", "work"))
    )
    assert not {"reports/report.md", "dvc.lock", "data/prepare/manifest.json", "work/scratch"} & set(there)
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[-3:]] == ["1.", "2.", "3."]
    assert "\nwarning: settings are not fitted: no images are at data/raw/pets in the new folder yet\n" in out
    assert all(word in out for word in ("make doctor", "train_teacher", "make repro"))


def test_without_git_every_file_of_the_project_is_known_by_its_name() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=TOP, capture_output=True, text=True).stdout.splitlines()
    known = tuple(f"{name}/" for name in creation._NAMES)
    assert [name for name in tracked if not f"{name}/".startswith((*known, *creation._RESULTS))] == []


def test_params_say_where_the_images_are_and_nothing_else_changes(old: Path) -> None:
    target = old.parent / "pets"
    new_project.main(str(target), path="data/raw/pets")
    assert read_yaml(target / "params.yaml")["prepare"]["source"] == {"kind": "folder", "path": "data/raw/pets"}
    assert (target / "dvc.yaml").read_bytes() == (old / "dvc.yaml").read_bytes()
    before, after = ((top / "params.yaml").read_text().splitlines() for top in (old, target))
    assert len([line for line in before if line not in after]) == 1
    assert [line.partition("#")[2] for line in before] == [line.partition("#")[2] for line in after]


def test_dvc_accepts_it(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = old.parent / "pets"
    new_project.main(str(target), path="data/raw/pets")
    (target / "data/raw/pets/cat").mkdir(parents=True)
    (target / "data/raw/pets/cat/1.png").write_bytes(b"image")
    monkeypatch.undo()
    done = run(target, sys.executable, "-m", "dvc", "repro", "--dry", "list_files")
    assert "Running stage 'list_files'" in done.stdout


def test_images_that_are_there_are_named_from_the_root(old: Path) -> None:
    (old.parent / "images").mkdir()
    new_project.main(str(old.parent / "pets"), path="images")
    expected = str(old.parent / "images")
    assert read_yaml(old.parent / "pets/params.yaml")["prepare"]["source"]["path"] == expected


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("webdataset", "data/raw/pets/train-{0000..0009}.tar"),
        ("parquet", "data/raw/*.parquet"),
        ("manifest", "data/raw/pets/all.csv"),
        ("arrays", "data/raw/pets.npz"),
    ],
)
def test_what_is_not_there_is_a_place_in_the_new_project(
    old: Path, kind: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new_project.main(str(old.parent / "pets"), kind, path)
    assert read_yaml(old.parent / "pets/params.yaml")["prepare"]["source"] == {"kind": kind, "path": path}
    assert f"no images are at {path} in the new folder yet" in capsys.readouterr().out
    (old.parent / "pets/data/raw/pets").mkdir(parents=True)
    new_project.main(str(old.parent / "others"), kind, f"pets/{path}")
    found = read_yaml(old.parent / "others/params.yaml")["prepare"]["source"]["path"]
    assert (found == str(old.parent / "pets" / path)) == (kind in ("webdataset", "parquet"))


@pytest.mark.parametrize("path", ["/no/pets", "~/no/pets", "../no/pets"])
def test_images_elsewhere_may_come_later_where_that_is_said(
    old: Path, path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    new_project.main(str(old.parent / "pets"), path=path, later=True)
    expected = {"/": "/no/pets", "~": "/home/anna/no/pets", ".": str(old.parent.parent / "no/pets")}[path[0]]
    assert read_yaml(old.parent / "pets/params.yaml")["prepare"]["source"] == {"kind": "folder", "path": expected}
    assert f"\nwarning: settings are not fitted: no images are at {expected} yet\n" in capsys.readouterr().out


def test_a_source_without_a_path_leaves_the_dag_alone(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creation, "fit_project", lambda *_: None)
    new_project.main(str(old.parent / "pets"), "digits")
    assert (old.parent / "pets/dvc.yaml").read_text() == (old / "dvc.yaml").read_text()
    assert read_yaml(old.parent / "pets/params.yaml")["prepare"]["source"] == {"kind": "digits"}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("full", "folder", "x"), ["full", "not empty"]),
        (("file", "folder", "x"), ["file", "not empty"]),
        (("", "folder", "x"), ["NAME: not given", "make new NAME="]),
        (("pets", "foldr", "x"), ["SOURCE (--source)", "'foldr'", "did you mean 'folder'"]),
        (("pets", "folder", None), ["DATA (--path)", "not given"]),
        (("pets", "folder", "/no/pets"), ["DATA (--path): nothing is at /no/pets", "LATER=1 (--later)"]),
        (("pets", "folder", "~/no/pets"), ["nothing is at ~/no/pets"]),
        (("pets", "folder", "../no/pets"), ["nothing is at ../no/pets"]),
        (("pets", "manifest", "a/../../pets.csv"), ["nothing is at a/../../pets.csv"]),
        (("pets", "webdataset", "/no/pets-{0000..0009}.tar"), ["nothing is at /no/pets-{0000..0009}.tar"]),
        (("pets", "digits", "x"), ["source.path", "unknown key"]),
        (("pets", "folder", "x", "30m"), ["MINUTES (--minutes): '30m'", "a number of minutes"]),
        (("pets", "folder", "x", "nan"), ["MINUTES"]),
        (("pets", "folder", "x", "0.5"), ["MINUTES", "1 or more"]),
    ],
)
def test_what_can_not_be_made_is_told_in_a_line_before_anything_is_written(
    old: Path, arguments: tuple[str, ...], parts: list[str]
) -> None:
    (old.parent / "full").mkdir()
    (old.parent / "full/mine").write_text("mine")
    (old.parent / "file").write_text("mine")
    before = files_of(old.parent)
    with pytest.raises(PipelineError) as caught:
        new_project.main(arguments[0] and str(old.parent / arguments[0]), *arguments[1:])
    assert all(part in str(caught.value) for part in parts), caught.value
    assert files_of(old.parent) == before


def test_a_folder_below_home_is_found_where_the_shell_does_not(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(old.parent))
    new_project.main("~/pets", path="data/raw/pets")
    assert (old.parent / "pets/params.yaml").exists()
    assert not (old.parent / "~").exists()
