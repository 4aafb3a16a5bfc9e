"""new_project: this project's code in a new folder, for other data: no history, data or reports
come along.

A command, not a stage of the DAG.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.command import run_stage
from pipeline.core.progress import show
from pipeline.doctor.new_project import create_project
from pipeline.preparation.sources import SOURCES


def main(
    target: Annotated[Path, typer.Argument(help="The new folder.")],
    source: Annotated[str, typer.Option(help="What kind of source the images have: " + ", ".join(SOURCES))] = "folder",
    path: Annotated[
        str | None, typer.Option(help="Where they are; if nothing is there, it is a place in the new folder.")
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=1.0, help="How long a whole run may take here: settings are fitted to it.")
    ] = 30.0,
) -> None:
    created = create_project(target, source, path, minutes)
    settings = ", ".join(f"{key}: {value}" for key, value in created.row.items())
    for line in created.fitted:
        show(line)
    show(
        f"{target}: a project of its own, prepare.source: {{{settings}}}. Next, in that folder:\n"
        "  1. make doctor    looks at params.yaml, the images, the networks and the disk\n"
        "  2. params.yaml    the teacher (train_teacher) and the students; docs/own-data.md shows how\n"
        "  3. make repro     runs the pipeline"
    )


if __name__ == "__main__":
    run_stage(main)
