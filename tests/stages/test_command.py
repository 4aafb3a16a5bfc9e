"""The command `potstill`: groups of commands, each with the options of its stage, and fast help."""

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
import typer
from project import environment
from typer.testing import CliRunner, Result

from pipeline.core.closure import TOP
from pipeline.core.command import stage_app
from stages.__main__ import COMMANDS, LABELS, Entry, build_app

FLAT = {(name,): entry for entries in COMMANDS.values() for name, entry in entries.items() if isinstance(entry, Entry)}
EVERY = FLAT | {("labels", name): entry for name, entry in LABELS.items()}


def call(*words: str, **variables: str) -> Result:
    """Runs `potstill` in this process."""
    return CliRunner().invoke(build_app(), words, prog_name="potstill", env={"COLUMNS": "200", **variables})


def options(command: Any) -> list[tuple[str, list[str], Any, bool]]:
    """Returns the options of a command and of its subcommands."""
    inner = getattr(command, "commands", {})
    own = [(each.name, each.opts, each.default, each.required) for each in command.params]
    return own + [option for name in inner for option in options(inner[name])]


def test_help_lists_every_command_in_groups_that_follow_the_pipeline() -> None:
    out = call("--help").stdout
    shown = [word for line in out.splitlines() for word in line.strip("│ ").split()[:1]]
    names = [name for entries in COMMANDS.values() for name in entries]
    assert [word for word in shown if word in names] == names
    places = [out.index(f"─ {panel} ─") for panel in COMMANDS]
    assert places == sorted(places)
    assert all(entry.line in out for entry in FLAT.values())


def test_labels_lists_its_commands() -> None:
    out = call("labels", "--help").stdout
    assert all(name in out and entry.line in out for name, entry in LABELS.items())


def test_every_script_has_a_command() -> None:
    assert {entry.module for entry in EVERY.values()} == {path.stem for path in (TOP / "stages").glob("[!_]*.py")}


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_a_command_has_the_options_of_its_stage_and_a_line_of_help(words: tuple[str, ...]) -> None:
    entry = EVERY[words]
    module = import_module(f"stages.{entry.module}")
    mains = [getattr(module, name) for name in entry.functions]
    assert options(entry.load()) == options(typer.main.get_command(stage_app(*mains)))
    assert entry.line in call(*words, "--help").stdout
    script = (TOP / f"stages/{entry.module}.py").read_text()
    functions = dict.fromkeys(name for each in EVERY.values() if each.module == entry.module for name in each.functions)
    assert f"run_stage({', '.join(functions)})" in script


def test_a_mistake_is_one_line(tmp_path: Any) -> None:
    command = [sys.executable, "-m", "stages", "report", "--params", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, cwd=TOP, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "no such file" in line


def test_a_misspelt_name_gets_the_nearest_one() -> None:
    result = call("train-studnet")
    assert result.exit_code == 2
    assert "train-student" in result.output


def test_help_and_completion_of_names_import_no_stage() -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from stages.__main__ import build_app; "
        "codes = [CliRunner().invoke(build_app(), words).exit_code for words in (['--help'], ['labels', '--help'])]; "
        "heavy = {'torch', 'numpy', 'zarr', 'stages.prepare'} & set(sys.modules); sys.exit(str(heavy) if heavy else sum(codes))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=TOP, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_shell_can_complete_names_and_options() -> None:
    assert "_POTSTILL_COMPLETE=complete_bash" in call(_POTSTILL_COMPLETE="source_bash").stdout
    for words, expected in (
        ("potstill train-s", "train-student"),
        ("potstill labels ver", "verify"),
        ("potstill report --rep", "--reports"),
    ):
        number = str(len(words.split()) - 1)
        result = call(_POTSTILL_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=number)
        assert expected in result.stdout.split(), words
