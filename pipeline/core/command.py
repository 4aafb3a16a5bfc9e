"""A stage as a command."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import typer

from pipeline.core.allocation import keep_freed_memory
from pipeline.core.errors import one_line_errors

_AS_THEY_STAND: dict[str, Any] = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def stage_app(*mains: Callable[..., None]) -> typer.Typer:
    """Returns a command whose options are the parameters of `main`.

    Several functions become subcommands of their names. A parameter `words` takes another program's
    command as it stands, with its own options.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    for main in mains:
        settings = _AS_THEY_STAND if "words" in signature(main).parameters else None
        app.command(context_settings=settings)(_as_stage()(main))  # inside, because typer handles Ctrl-C itself
    return app


def run_stage(*mains: Callable[..., None]) -> None:
    """Runs a stage's `main`, or the one that the command line names, with the arguments there."""
    stage_app(*mains)()


@contextmanager
def _as_stage() -> Iterator[None]:
    """Runs what is the work of a process: its memory is its own, and its faults end it."""
    keep_freed_memory()
    with one_line_errors():
        yield
