"""Timing beside other work: whether others share the processors, and times as an idle machine would
have them.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

BUSY = 0.1  # of all processors: more is reported, and taken out of times
_SAMPLE_SECONDS = 0.2
_SERIAL = 0.1  # of a step: what a second thread does not make faster
_STAT = Path("/proc/stat")
_IDLE, _IOWAIT, _GUEST = 3, 4, 8  # columns of its first line; guests are counted as users, too


class Load:
    """The share of all processors that other processes take, from its making on."""

    def __init__(self) -> None:
        self._begin = _reading()

    @property
    def others(self) -> float:
        """The share, 0 to 1; 0 where the system does not tell."""
        clock, busy = (now - before for now, before in zip(_reading(), self._begin, strict=True))
        return min(max(busy / (clock * (os.cpu_count() or 1)), 0.0), 1.0) if clock > 0 else 0.0

    def remark(self) -> str | None:
        """Returns a line for the user where the machine is busy."""
        if (others := self.others) <= BUSY:
            return None
        found = f"other processes took {others:.0%} of the processors while networks were timed"
        return f"{found}; times are those of an idle machine: beside this work all takes longer"


class Clock:
    """A clock of what this process does; on a busy machine it counts processor time."""

    def __init__(self, busy_threads: int | None) -> None:
        self._threads = busy_threads

    def read(self) -> float:
        """Returns the seconds that have passed on an idle machine, from some begin."""
        if self._threads is None:
            return time.perf_counter()
        return time.process_time() * (_SERIAL + (1 - _SERIAL) / self._threads)


@contextmanager
def idle_clock(threads: int | None = None) -> Iterator[Clock]:
    """Yields a clock of what an idle machine would need.

    On a busy machine one thread does the work: of several, those that wait for the one that has to
    share its processor spin, which counts as work. The clock then takes the other threads into
    account by Amdahl's law. A GPU has its work done either way.

    Args:
        threads: That do the work; None: torch's.
    """
    load = Load()
    time.sleep(_SAMPLE_SECONDS)
    if load.others <= BUSY or (threads is None and torch.cuda.is_available()):
        yield Clock(None)
        return
    own = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield Clock(threads or own)
    finally:
        torch.set_num_threads(own)


def _reading() -> tuple[float, float]:
    """Returns a clock, and the seconds that the processors have worked for other processes."""
    try:
        ticks = [int(count) for count in _STAT.read_text().split("\n", 1)[0].split()[1:]]
    except (OSError, ValueError):
        return time.perf_counter(), 0.0
    busy = (sum(ticks[:_GUEST]) - ticks[_IDLE] - ticks[_IOWAIT]) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), busy - time.process_time()
