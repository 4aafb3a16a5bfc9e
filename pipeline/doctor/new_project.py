"""A new project: this code in another folder, its settings naming other data."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.closure import TOP
from pipeline.core.config import edit_entry, load_params, load_section, write_settings
from pipeline.core.errors import ConfigError, PipelineError, suggest
from pipeline.doctor.choice import Choice, settings_of
from pipeline.doctor.columns import columns_line, with_columns
from pipeline.doctor.fitting import Fitted, fit_project
from pipeline.doctor.inputs import begin_with, fit_shifts, general, input_named, source_for
from pipeline.doctor.source import SourceLook
from pipeline.doctor.tasks import TASKS, fit_signal, fit_task, row_for_task, source_signal
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sounds import SoundForm
from pipeline.preparation.sources import SOURCES, build_source
from pipeline.preparation.sources.fashion_mnist import FashionMnist
from pipeline.preparation.sources.inputs import check_name
from pipeline.preparation.sources.patterns import is_there

_NAMES = (
    ".ci",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
    "LICENSE",
    "Makefile",
    "README.md",
    "benchmarks",
    "constraints.txt",
    "data/.gitignore",
    "data/README.md",
    "docs",
    "dvc.yaml",
    "networks",
    "params.yaml",
    "pipeline",
    "potstill",
    "pyproject.toml",
    "stages",
    "tests",
)
_RESULTS = ("reports/", "dvc.lock")


@dataclass(frozen=True)
class Wanted:
    """A project that is asked for.

    Attributes:
        path: Where its samples are.
        source: None: the one that fits the input and the path.
        later: Whether the samples may come later, to a path outside the new folder where nothing
            is.
        task: One of `TASKS`; None: it follows from the labels of the source.
        input: One of `INPUTS`.
    """

    path: str | None = None
    source: str | None = None
    later: bool = False
    task: str | None = None
    input: str = "image"


@dataclass(frozen=True)
class Created:
    """A new project.

    Attributes:
        row: Its `prepare.source`.
        fitted: What was fitted to the images, or why nothing was; None: the defaults are theirs.
        begun: The settings that it begins with, where its samples are no images, and lines about
            the samples that are there.
        task: What was chosen for its task before.
    """

    target: Path
    row: dict[str, Any]
    fitted: Fitted | str | None
    task: Sequence[Choice] = ()
    begun: tuple[str, Sequence[str]] | None = None


def create_project(target: Path, wanted: Wanted, minutes: float) -> Created:
    """Writes a project of its own into a new folder, its settings fitted to images that are there.
    Other samples begin with the settings of an example.

    Args:
        minutes: The time that a whole run may take on this machine.

    Raises:
        ConfigError: The folder is not empty, there is no such source, nothing is at its path,
            or its labels are not of the task.
    """
    target = target.expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(target, "is there already, and is not empty", expected="a new folder")
    own, task = input_named(wanted.input), wanted.task
    source = source_for(wanted.input, wanted.source, wanted.path)
    given = _source_row(source, wanted.path, wanted.later)
    named = with_columns(given, task)
    row = row_for_task(named, task)
    # 1. Copy the code into a folder beside the target, so that a killed copy is not taken for a
    # project.
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in _files(TOP):
        place = partial / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TOP / name, place)
    # 2. Put the data's place into the settings. The DAG's stage list_files looks there.
    params = partial / "params.yaml"
    begin_with(own, params)
    edit_entry(params, "prepare.source", lambda _: row)
    write_settings(params, general(own, load_params(params)))
    chosen = [*(Choice(line, []) for line in columns_line(named, given)), *fit_task(task, load_params(params))]
    write_settings(params, settings_of(chosen))
    begun = None if own.kind == "image" else (own.params, _found_lines(params, row))
    fitted = _fit(params, row, minutes) if begun is None else None
    if not isinstance(fitted, Fitted):
        signal = (TASKS[task] if task else None) or source_signal(row) or "categorical"
        write_settings(params, settings_of(fit_signal(signal, load_params(params))))
    # 3. Give it its name, and a history of its own.
    partial.rename(target)
    _init_git(target)
    return Created(target, row, fitted, chosen, begun)


def _found_lines(params: Path, row: Mapping[str, Any]) -> list[str]:
    """Returns lines about samples that are no images, or about why they are not looked at; fits
    views to their length.
    """
    if reason := _not_there(row, "samples"):
        return [f"warning: {reason}"]
    try:
        settings = load_section(Prepare, "prepare", params)
        source = build_source(settings.source, f"{params}: prepare.source")
        look = SourceLook(source, params.parent / "data/raw", settings)
        if isinstance(look.form, SoundForm):
            fit_shifts(params, look.form.length)
        return look.understood.lines()
    except PipelineError as error:
        return [f"warning: {error}"]


def _fit(params: Path, row: Mapping[str, Any], minutes: float) -> Fitted | str | None:
    """Fits the settings to the images; returns the reason where there are none to look at."""
    if row["kind"] == FashionMnist.kind:
        return None
    if reason := _not_there(row, "images"):
        return reason
    try:
        return fit_project(params, params.parent / "data/raw", minutes)
    except PipelineError as error:
        return str(error)


def _not_there(row: Mapping[str, Any], things: str) -> str | None:
    """Returns why samples can't be looked at yet; None where they are there."""
    if "path" in row and not Path(row["path"]).is_absolute():
        return f"no {things} are at {row['path']} in the new folder yet"
    return f"no {things} are at {row['path']} yet" if "path" in row and not is_there(row["path"]) else None


def _source_row(kind: str, path: str | None, later: bool) -> dict[str, Any]:
    """Returns the row `prepare.source`; raises ConfigError where it is none."""
    if kind not in SOURCES:
        raise ConfigError("SOURCE (--source)", repr(kind), expected=suggest(kind, list(SOURCES)))
    row = {"kind": kind}
    if path is not None:
        row["path"] = _found(path, later)
    try:
        build_source(row, "source")
    except PipelineError:
        if path is None:
            raise ConfigError("DATA (--path)", "not given", expected=f"where the samples of the {kind} are") from None
        raise
    return row


def _found(path: str, later: bool) -> str:
    """Returns the full path of what is there; a path below where nothing is stands for a place in
    the new project.

    Raises ConfigError where nothing is elsewhere: the path is probably misspelt.
    """
    check_name(path)
    full = str(Path(path).expanduser()) if path.startswith("~/") else path
    for text in (path, full):
        if is_there(text):
            return str(Path(text).absolute())
    if not Path(full).is_absolute() and ".." not in Path(full).parts:
        return path
    if not later:
        fix = "correct it, or add LATER=1 (--later) where they will come there later"
        raise ConfigError("DATA (--path)", f"nothing is at {path}", expected="samples", fix=fix)
    return os.path.normpath(Path(full).absolute())


def _files(top: Path) -> Iterator[str]:
    """Yields the project's files: those that git tracks, or without git the known ones."""
    tracked = _git(top, "ls-files", "-z")
    if tracked is not None:
        names = [name for name in tracked.split("\0") if name and not name.startswith(_RESULTS)]
    else:
        names = [str(path.relative_to(top)) for name in _NAMES for path in _below(top / name)]
    yield from (name for name in names if (top / name).is_file())


def _below(path: Path) -> Iterator[Path]:
    yield from (
        (file for file in sorted(path.rglob("*")) if "__pycache__" not in file.parts) if path.is_dir() else [path]
    )


def _git(folder: Path, *arguments: str) -> str | None:
    """Returns what git prints; None where there is no git, or no repository of its own."""
    try:
        top = subprocess.run(["git", "rev-parse", "--show-toplevel"], cwd=folder, capture_output=True, text=True)
        if arguments[0] != "init" and (top.returncode or Path(top.stdout.strip()) != folder.resolve()):
            return None
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    except OSError:
        return None
    return None if done.returncode else done.stdout


def _init_git(folder: Path) -> None:
    """Starts a history; without git, sets DVC to work without it."""
    if _git(folder, "init", "--quiet") is None:
        (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
