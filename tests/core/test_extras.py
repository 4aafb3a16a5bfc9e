"""A library that an install lacks is one line with the extra that brings it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.core.closure import TOP
from pipeline.core.errors import one_line_errors
from pipeline.core.extras import EXTRA_OF, missing_line

IMPORTED_AS = {"scikit-learn": "sklearn"}
NOT_IMPORTED = {"ruamel.yaml.clib"}  # a part of another library


def test_every_library_of_an_extra_is_known_by_one_that_has_it() -> None:
    extras = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {extra: {re.split(r"[>=]", line)[0] for line in lines} for extra, lines in extras.items() if extra != "dev"}
    libraries = {extra: {IMPORTED_AS.get(name, name) for name in each - NOT_IMPORTED} for extra, each in names.items()}
    assert set.union(*libraries.values()) == set(EXTRA_OF)
    assert all(library in libraries[extra] for library, extra in EXTRA_OF.items())


@pytest.mark.parametrize("name", ["tokenizers", "tokenizers.models"])
def test_a_library_of_an_extra_that_can_not_be_imported_is_a_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "error: tokenizers: not installed; install the extra `text`: pip install -c constraints.txt '.[text]'\n"
    )


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("x", name="pipeline.nothing"), ModuleNotFoundError("x"), ImportError("x", name="dvc")]
)
def test_any_other_import_that_fails_keeps_its_traceback(error: ImportError) -> None:
    assert missing_line(error) is None
    with pytest.raises(ImportError), one_line_errors():
        raise error


@pytest.mark.parametrize("command", [["stages.repair"], ["stages", "repair"]])
def test_so_is_one_that_a_command_needs_from_its_beginning(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "dvc.py").write_text("raise ModuleNotFoundError('No module named dvc', name='dvc')\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{TOP}"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr
        == "error: dvc: not installed; install the extra `pipeline`: pip install -c constraints.txt '.[pipeline]'\n"
    )
