"""new_project: this project's code in a new folder, for other images: no history, data or reports come along.

A command, not a stage of the DAG.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.core.command import run_stage
from pipeline.core.config import edit_entry
from pipeline.core.errors import ConfigError, PipelineError, suggest
from pipeline.preparation.sources import SOURCES, build_source

TOP = Path(__file__).absolute().parent.parent
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
    "pyproject.toml",
    "stages",
    "tests",
)
_RESULTS = ("reports/", "dvc.lock")


def main(
    target: Annotated[Path, typer.Argument(help="The new folder.")],
    source: Annotated[str, typer.Option(help="What kind of source the images have: " + ", ".join(SOURCES))] = "folder",
    path: Annotated[
        str | None, typer.Option(help="Where they are; if nothing is there, it is a place in the new folder.")
    ] = None,
) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(target, "is there already, and is not empty", expected="a new folder")
    row = _source_row(source, path)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in _files(TOP):
        place = partial / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TOP / name, place)
    edit_entry(partial / "params.yaml", "prepare.source", lambda _: row)
    if "path" in row:
        edit_entry(partial / "dvc.yaml", "stages.prepare.deps", lambda deps: _with(deps, _watched(row["path"])))
    partial.rename(target)
    _init_git(target)
    _tell(target, row)


def _source_row(kind: str, path: str | None) -> dict[str, Any]:
    """The row `prepare.source`; raises ConfigError where it is none."""
    if kind not in SOURCES:
        raise ConfigError("--source", repr(kind), expected=suggest(kind, list(SOURCES)))
    row = {"kind": kind}
    if path is not None:
        row["path"] = str(Path(path).expanduser().absolute()) if Path(_watched(path)).expanduser().exists() else path
    try:
        build_source(row, "source")
    except PipelineError:
        if path is None:
            raise ConfigError("--path", "not given", expected=f"where the images of the {kind} are") from None
        raise
    return row


def _watched(path: str) -> str:
    """What DVC has to look at: of a pattern the folder that it begins with, of a table its folder."""
    if pattern := re.search(r"[*?\[{]", path):
        return str(Path(path[: pattern.start()] + "x").parent)
    return str(Path(path).parent) if Path(path).suffix in {".csv", ".tsv", ".tab"} else path


def _with(deps: list[str], path: str) -> list[str]:
    deps.append(path)
    return deps


def _files(top: Path) -> Iterator[str]:
    """The project's files: those that git tracks, or the known ones where there is no git."""
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
    """What git says; None where there is no git, or no repository of its own."""
    try:
        top = subprocess.run(["git", "rev-parse", "--show-toplevel"], cwd=folder, capture_output=True, text=True)
        if arguments[0] != "init" and (top.returncode or Path(top.stdout.strip()) != folder.resolve()):
            return None
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    except OSError:
        return None
    return None if done.returncode else done.stdout


def _init_git(folder: Path) -> None:
    """With no git there, DVC is told to do without."""
    if _git(folder, "init", "--quiet") is None:
        (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")


def _tell(target: Path, row: dict[str, Any]) -> None:
    told = ", ".join(f"{key}: {value}" for key, value in row.items())
    print(
        f"{target}: a project of its own, prepare.source: {{{told}}}. Next, in that folder:\n"
        "  1. make doctor    looks at params.yaml, the images, the networks and the disk\n"
        "  2. params.yaml    the teacher (train_teacher) and the students; docs/own-data.md shows how\n"
        "  3. make repro     runs the pipeline"
    )


if __name__ == "__main__":
    run_stage(main)
