"""new_project: this project's code in a new folder, for other data: no history, data or reports
come along.

A command, not a stage of the DAG. `make new` calls it: its variables stand beside the options in
messages.
"""

import math
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.command import run_stage
from pipeline.core.errors import ConfigError
from pipeline.core.progress import show
from pipeline.doctor.announcement import announce
from pipeline.doctor.inputs import INPUTS
from pipeline.doctor.new_project import Wanted, create_project
from pipeline.doctor.tasks import TASKS
from pipeline.preparation.sources import SOURCES

_USAGE = "make new NAME=../pets DATA=path/to/images"


def main(
    target: Annotated[str, typer.Argument(help="The new folder.")],
    source: Annotated[
        str | None,
        typer.Option(help=f"What kind of source the samples have: {', '.join(SOURCES)}; else the usual one."),
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(help="Where they are; a path below, where nothing is, stands for a place in the new folder."),
    ] = None,
    minutes: Annotated[
        str, typer.Option(help="How long a whole run may take here, 1 or more: settings are fitted to it.")
    ] = "30",
    task: Annotated[str | None, typer.Option(help=f"{', '.join(TASKS)}; otherwise it follows from the labels.")] = None,
    later: Annotated[bool, typer.Option("--later", help="The samples come later, to a path elsewhere.")] = False,
    kind: Annotated[str, typer.Option("--input", help=f"What the samples are: {', '.join(INPUTS)}.")] = "image",
) -> None:
    if not target:
        raise ConfigError("NAME", "not given", expected=f"the new folder: {_USAGE}")
    allowed = read_minutes(minutes)
    if kind == "image":
        show("making the project: looking at the images, and timing the networks for half a minute or so")
    wanted = Wanted(path, source, later, task, kind)
    for line in announce(create_project(Path(target), wanted, allowed)):
        show(line)


def read_minutes(text: str) -> float:
    """Returns a number of minutes; raises ConfigError where it is none."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 1 <= minutes < math.inf:
        raise ConfigError("MINUTES (--minutes)", repr(text), expected="a number of minutes, 1 or more")
    return minutes


if __name__ == "__main__":
    run_stage(main)
