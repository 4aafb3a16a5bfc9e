"""Signals that end a stage: Ctrl-C, SIGTERM (its machine is wanted) and SIGHUP (its terminal has
gone).

Signals that are ignored from the start, as by `nohup`, stay so. Of several processes that train one
network torchrun ends each, and the checkpoints of all must be of one step, so they go at once.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_STATUS = 128  # and the signal's number: what shells report

Handler = Callable[[int, FrameType | None], object]


class Stopped(KeyboardInterrupt):
    """An interrupt by a signal."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.status = _STATUS + number
        name = "" if number == signal.SIGINT else f" ({signal.Signals(number).name})"
        self.line = f"interrupted{name}: finished work is kept, run the same command to go on"


def leave_at_once() -> None:
    """Makes a signal end this process with its line: nothing is at work while libraries load."""
    _handle(_leave)


@contextmanager
def interrupts() -> Iterator[None]:
    """Raises Stopped at a signal."""
    before = _handle(_raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class HeldBack:
    """A stretch of work in which the first signal waits for a good moment; a second one does not.

    Raises Stopped at its end where that moment did not come.
    """

    active: "HeldBack | None" = None

    def __init__(self) -> None:
        self.asked: int | None = None

    def __enter__(self) -> "HeldBack":
        HeldBack.active = self
        return self

    def stop(self) -> None:
        """Raises Stopped if a signal has come."""
        if self.asked is not None:
            raise Stopped(self.asked)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        HeldBack.active = None
        if kind is None:
            self.stop()


def is_asked_to_stop() -> bool:
    """Returns whether a signal waits."""
    return HeldBack.active is not None and HeldBack.active.asked is not None


def _handle(handler: Handler) -> dict[int, Handler]:
    """Sets the handler of each signal; returns those that were set before."""
    if threading.current_thread() is not threading.main_thread() or os.environ.get("WORLD_SIZE", "1") != "1":
        return {}
    before = {number: signal.getsignal(number) for number in SIGNALS}
    replaced = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in replaced:
        signal.signal(number, handler)
    return replaced  # type: ignore[return-value]  # SIG_DFL is an integer, and as good


def _raise(number: int, _: FrameType | None) -> None:
    if HeldBack.active is not None and HeldBack.active.asked is None:
        HeldBack.active.asked = number
        return
    raise Stopped(number)


def _leave(number: int, _: FrameType | None) -> None:
    stopped = Stopped(number)
    os.write(2, f"{stopped.line}\n".encode())
    os._exit(stopped.status)
