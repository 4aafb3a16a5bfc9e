"""doctor: looks at params.yaml, the images, the networks and the disk before hours are spent on
them.

A command, not a stage of the DAG. It reports its findings line by line and leaves nothing behind,
except what the stages would fetch as well: images in data/raw, published weights where their
library keeps them. Ends with status 1 where there is an error.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS
from pipeline.core.progress import show
from pipeline.core.scratch import WORK
from pipeline.doctor.checkup import check_up
from pipeline.doctor.findings import Findings
from pipeline.doctor.folders import Folders


def main(
    params: Path = PARAMS,
    raw: Path = Path("data/raw"),
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    labels: Path = Path("data/dump_labels"),
    quick: Annotated[bool, typer.Option("--quick", help="Without running the networks.")] = False,
    work: Path = WORK,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only warnings and errors.")] = False,
) -> None:
    findings = Findings(quiet=quiet)
    check_up(params, Folders(raw, data, teacher, labels, work), findings, quick=quick)
    errors, warnings = findings.counts["error"], findings.counts["warning"]
    if errors or warnings or not quiet:
        show(f"{errors} errors, {warnings} warnings")
    raise typer.Exit(1 if errors else 0)


if __name__ == "__main__":
    run_stage(main)
