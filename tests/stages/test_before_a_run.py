"""Before hours are spent, settings are refused by the first stage and by the doctor in one line."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import typer
from project import small_params, write_params
from ruamel.yaml import YAML

from pipeline.core.closure import TOP
from pipeline.core.errors import ConfigError
from pipeline.core.names import check_names
from pipeline.doctor import checkup
from pipeline.doctor.checkup import look_at_images
from pipeline.doctor.findings import Findings
from pipeline.doctor.folders import Folders
from pipeline.doctor.images import Look
from pipeline.doctor.params import read_params
from stages import doctor, list_files

Change = Callable[[dict[str, Any]], object]


pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # DVC's

WRONG_NAMES = [
    *("a b", "it's", 'a"b', "a;b", "$(touch x)", "`x`", "w0.25", "../x", "a/b", "-x", "", "é", "a\n", "a" * 65),
    *(1, 0.5, True, None),
]


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Look:
    """Returns a look at the images, which takes a second."""
    path = write_params(tmp_path_factory.mktemp("look"), small_params())
    look = look_at_images(read_params(path, Findings()), Folders(*[path.parent / "none"] * 5), Findings(), ExitStack())
    assert look is not None
    return look


@pytest.fixture(autouse=True)
def project(tmp_path: Path, look: Look, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder that DVC takes for a project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkup, "look_at_images", lambda *_: look)
    monkeypatch.setattr(checkup, "measure_label_bytes", lambda *_: {})
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (tmp_path / "dvc.yaml").write_bytes((TOP / "dvc.yaml").read_bytes())
    return tmp_path


def errors_of_doctor(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Returns the errors that `make repro` would stop at."""
    capsys.readouterr()
    with pytest.raises(typer.Exit) as stop:
        doctor.main(Path("params.yaml"), quick=True, quiet=True)
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("ok")]
    errors = [line.removeprefix("error    ") for line in lines if line.startswith("error ")]
    assert stop.value.exit_code == (1 if errors else 0)
    return errors


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_name_that_is_no_word_of_a_shell_is_refused(name: object) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"students: named {name!r}"[:40])):
        check_names(["small", name], "students")


@pytest.mark.parametrize("name", ["small", "Small_2", "yes", "1", "_", "a" * 64, "a-b"])
def test_letters_digits_and_dashes_are_a_name(name: str) -> None:
    check_names([name], "students")


@pytest.mark.parametrize("table", ["students", "encodings"])
def test_names_are_refused_by_the_first_stage_and_by_the_doctor_and_all_at_once(
    table: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = small_params()
    rows = list(params[table].values())
    params |= {table: {"a;b": rows[0], "w0.25": rows[0], 1: rows[0]}, "exports": []}
    write_params(project, params)
    told = f"params.yaml: {table}: named 'a;b', 'w0.25', 1 (int"
    with pytest.raises(ConfigError, match=re.escape(told)):
        list_files.main()
    assert not (project / "reports").exists()
    assert len([line for line in errors_of_doctor(capsys) if told in line]) == 1


def test_what_is_exported_is_a_student_before_it_is_a_word_of_a_command(project: Path) -> None:
    write_params(project, small_params() | {"exports": ["small'; touch x; '"]})
    with pytest.raises(ConfigError, match="exports: no student"):
        list_files.main()


def test_what_comes_from_params_is_quoted_in_every_command() -> None:
    stages = YAML(typ="safe", pure=True).load((TOP / "dvc.yaml").read_text())["stages"]
    commands = {name: stage.get("do", stage)["cmd"] for name, stage in stages.items()}
    quoted = {name: re.findall(r".?\$\{[^}]*\}.?", command) for name, command in commands.items()}
    for name, places in quoted.items():
        for place in places:
            assert place == f"${{launcher.{name}}} " or re.fullmatch(r"'\$\{(key|item)\}'", place), (name, place)
    assert sum(map(len, quoted.values())) == 6


def labels_by_default(params: dict[str, Any]) -> None:
    params["students_defaults"] = {"labels": params["students"]["small"].pop("labels")}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (labels_by_default, ["students.small.labels", "missing in the row", "students_defaults", "add it"]),
        (lambda p: p.update(launcher=None), ["params.yaml: launcher", "None"]),
        (lambda p: p["launcher"].pop("dump_labels"), ["launcher.dump_labels", "missing"]),
        (lambda p: p["students"]["small"].update(labels="dens8"), ["students.small.labels", "did you mean 'dense8'"]),
        (lambda p: p["students"]["small"].update(labels="../x"), ["students.small.labels", "'../x'"]),
        (lambda p: p["students"].update(small="text"), ["students.small", "'text'", "a map of settings"]),
        (lambda p: p["students"].update(small=None), ["students.small", "None", "a map of settings"]),
        (lambda p: p["encodings"].update(top2=["k", 2]), ["encodings.top2", "['k', 2]", "a map of settings"]),
        (lambda p: p.update(students_defaults="text"), ["students_defaults", "'text'"]),
        (lambda p: p.update(exports=["smal"]), ["exports", "did you mean 'small'"]),
    ],
)
def test_what_the_dag_could_not_run_is_found_before_the_first_stage(
    change: Change, parts: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = small_params()
    change(params)
    write_params(project, params)
    errors = errors_of_doctor(capsys)
    assert any(all(part in line for part in parts) for line in errors), errors
    assert len(errors) == len(set(errors))


def test_dvcs_own_parser_is_asked_too(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_params(project, small_params())
    assert errors_of_doctor(capsys) == []
    dag = project / "dvc.yaml"
    dag.write_text(dag.read_text().replace("${launcher.train_teacher}", "${launcher.train_teecher}"))
    (error,) = errors_of_doctor(capsys)
    assert "dvc.yaml: DVC can't read it" in error
    assert "train_teecher" in error


def test_an_encoding_that_can_not_fit_stops_the_run_before_the_teacher_where_a_student_names_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = small_params()
    params["encodings"]["top2"]["k"] = 11
    write_params(project, params)
    assert errors_of_doctor(capsys) == []
    params["students"]["small"]["labels"] = "top2"
    write_params(project, params)
    assert any("encodings.top2.k: 11; expected at most 9 for 10 classes" in line for line in errors_of_doctor(capsys))


def test_make_repro_begins_with_the_quick_check_up() -> None:
    recipe = (TOP / "Makefile").read_text().split("\nrepro:")[1].split("\n\n")[0]
    assert recipe.index("stages.doctor --quick --quiet") < recipe.index("dvc repro")
