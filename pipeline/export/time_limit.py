"""A limit on the time that a library's work may take."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.core.errors import PipelineError


class TimeLimitError(PipelineError):
    """The error of work that did not end in its time."""


class _TimeIsUp(BaseException):
    """A signal's exception; no `except Exception` of a library takes it for its own fault."""


@contextmanager
def time_limit(seconds: float, setting: str) -> Iterator[None]:
    """Ends the work inside when its time is up, even where it would never end by itself.

    It counts in the main thread alone, where Python runs what a signal asks for: between two steps
    of Python, so that one long call of a compiled library ends first.

    Args:
        setting: The name of the limit in params.yaml.

    Raises:
        TimeLimitError: The time is up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, _end)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)  # in here: it may be up before the next line
        yield
    except _TimeIsUp:
        raise TimeLimitError("it", f"took more than {seconds:g} s", fix=f"raise {setting}") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _end(*_: object) -> None:
    raise _TimeIsUp
