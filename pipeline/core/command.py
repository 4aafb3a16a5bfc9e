"""A stage as a command."""

from collections.abc import Callable

import typer

from pipeline.core.errors import one_line_errors


def run_stage(*mains: Callable[..., None]) -> None:
    """Runs a stage's `main` with its arguments from the command line; of several, the one that is
    named there.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    for main in mains:
        app.command()(one_line_errors()(main))  # inside, because typer has its own way with Ctrl-C
    app()
