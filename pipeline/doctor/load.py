"""A stopwatch that knows whether other work shares the processors."""

import os
import time
from pathlib import Path
from types import TracebackType

import torch

BUSY = 0.1  # of all processors: more is said, and taken out of times
_FULL_USE = 0.85  # of the threads' processors, by a network's steps on an idle machine
_STAT = Path("/proc/stat")
_IDLE, _IOWAIT, _GUEST = 3, 4, 8  # columns of its first line; guests are counted as users, too


class Stopwatch:
    """A timer for what this process does between its begin and its end.

    Attributes:
        seconds: By the clock.
        own_seconds: Of processors, by all threads of this process.
        others: The share of all processors that other processes took, 0 to 1; 0 where the system
            does not tell.
    """

    seconds = own_seconds = others = 0.0

    def __enter__(self) -> "Stopwatch":
        self._begin = time.perf_counter(), time.process_time(), busy_seconds()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clock, own, busy = self._begin
        self.seconds, self.own_seconds = time.perf_counter() - clock, time.process_time() - own
        if busy is not None and (now := busy_seconds()) is not None and self.seconds:
            share = (now - busy - self.own_seconds) / (self.seconds * (os.cpu_count() or 1))
            self.others = min(max(share, 0.0), 1.0)

    @property
    def is_busy(self) -> bool:
        """Whether other processes took enough to make this one slower."""
        return self.others > BUSY

    @property
    def remark(self) -> str:
        """A line for a user where the machine is busy."""
        return (
            f"other processes took {self.others:.0%} of the processors while this was timed; times are"
            " those of an idle machine, worked out from processor time"
        )

    @property
    def idle_seconds(self) -> float:
        """The seconds that the same would have taken with nothing beside it.

        On a busy machine it is worked out from processor time. A GPU does its work either way.
        """
        if not self.is_busy or torch.cuda.is_available():
            return self.seconds
        return min(self.seconds, self.own_seconds / torch.get_num_threads() / _FULL_USE)


def busy_seconds() -> float | None:
    """Returns the seconds that all processors have worked since the start; None where the system
    does not tell.
    """
    try:
        ticks = [int(count) for count in _STAT.read_text().split("\n", 1)[0].split()[1:]]
    except (OSError, ValueError):
        return None
    return (sum(ticks[:_GUEST]) - ticks[_IDLE] - ticks[_IOWAIT]) / os.sysconf("SC_CLK_TCK")
