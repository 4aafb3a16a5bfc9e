"""Processes that help one process on its machine, as many as there are cores.

A helper does what any other worker does: it takes pieces and files that nobody holds. It says
nothing, and where it fails it ends: what it held is free again, and its owner, who then does that
work itself, meets the same fault and reports it.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType

from pipeline.core.threads import usable_cores
from pipeline.preparation.filling import Filling
from pipeline.preparation.finish import files_of_splits
from pipeline.preparation.together import read_splits, write_files

_LOOK_SECONDS = 1.0  # of work, before its whole length is estimated
_LEAST_SECONDS = 8.0  # of work for one process: a helper needs 3 to begin
_WAIT_SECONDS = 0.2


class Helpers:
    """The helpers of a process, which end with it. They begin when it is clear that they pay.

    Args:
        filling: The work.
        output: Of the data set.
        count: The number of samples; None where that is not known, and nothing can be divided.
        most: The most processes; None: as many as there are cores.
    """

    def __init__(self, filling: Filling, output: Path, count: int | None, most: int | None) -> None:
        self._filling, self._output = filling, output
        self._count = count
        self._most = most or usable_cores()
        self._helpers: list[BaseProcess] = []
        self._start, self._done = time.monotonic(), 0

    def watched(self, on_samples: Callable[[int], object]) -> Callable[[int], object]:
        """Returns the function that counts samples, which then also looks whether helpers pay."""
        if self._most == 1 or self._count is None:
            return on_samples

        def update(count: int) -> None:
            on_samples(count)
            self._look(count)

        return update

    def _look(self, count: int) -> None:
        self._done += count
        seconds = time.monotonic() - self._start
        if self._helpers or seconds < _LOOK_SECONDS:
            return
        assert self._count is not None, "it is known"
        if seconds / max(self._done, 1) * (self._count - self._done) > _LEAST_SECONDS:
            self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        worker = self._filling.site.worker
        for number in range(1, self._most):
            own = replace(
                worker, index=worker.index * self._most + number, count=worker.count and worker.count * self._most
            )
            filling = replace(self._filling, site=replace(self._filling.site, worker=own))
            helper = context.Process(target=_help, args=(filling, self._output), daemon=True)
            helper.start()
            self._helpers.append(helper)

    def __enter__(self) -> "Helpers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for helper in self._helpers:
            helper.kill()  # at any instant, which nothing is lost by
        for helper in self._helpers:
            helper.join()


def _help(filling: Filling, output: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of them, and the owner acts on it
    threading.Thread(target=_end_with_owner, daemon=True).start()
    with open(os.devnull, "w") as silent, redirect_stderr(silent), suppress(Exception):  # noqa: PTH123
        filling.run(lambda count: None)
        while (splits := read_splits(filling.site)) is None:
            time.sleep(_WAIT_SECONDS)
        if (pool := filling.pool()) is not None:
            write_files(filling.site, files_of_splits(output, pool, splits), lambda count: None)


def _end_with_owner() -> None:
    owner = multiprocessing.parent_process()
    if owner is not None:
        owner.join()
    os._exit(1)
