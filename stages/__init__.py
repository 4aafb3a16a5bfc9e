"""One script per stage of dvc.yaml: read params, open inputs, call pipeline, write outputs."""

from collections.abc import Callable

import typer

from pipeline.errors import one_line_errors


def run_stage(main: Callable[..., None]) -> None:
    """Runs a stage's `main` with its arguments from the command line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(one_line_errors()(main))  # inside, because typer has its own way with Ctrl-C
    app()
