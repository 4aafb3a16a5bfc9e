"""A stage as a command."""

from collections.abc import Callable

import typer

from pipeline.core.errors import one_line_errors


def stage_app(*mains: Callable[..., None]) -> typer.Typer:
    """Returns a command whose options are the parameters of `main`.

    Several functions become subcommands of their names.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    for main in mains:
        app.command()(one_line_errors()(main))  # inside, because typer handles Ctrl-C itself
    return app


def run_stage(*mains: Callable[..., None]) -> None:
    """Runs a stage's `main`, or the one that the command line names, with the arguments there."""
    stage_app(*mains)()
