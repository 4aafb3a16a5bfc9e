"""Processes that help one process on its machine, as many as there are cores.

A helper does what any other worker does: it takes pieces and parts that nobody holds. It says
nothing, and where it fails it ends: what it held is free again, and its owner, who then does that
work itself, meets the same fault and reports it.

It is a new process, because a fork of one with threads may hang, and it needs half a second to
begin: without torch, which would take another second. So it begins before the work does where that
is clearly large, and gets the work through its standard input, which ends with its owner.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from pipeline.core.allocation import keep_freed_memory
from pipeline.core.threads import usable_cores
from pipeline.preparation.filling import Filling
from pipeline.preparation.parts import parts_of
from pipeline.preparation.split_files import files_of_splits
from pipeline.preparation.together import read_splits, write_parts

_LOOK_SECONDS = 0.5  # of work, before its whole length is estimated
_LEAST_SECONDS = 2.0  # of work for one process, that helpers pay for
_SAMPLE_SECONDS, _BYTE_SECONDS = 1e-4, 4e-8  # that a file takes about, as JPEG files do
_WAIT_SECONDS = 0.05


class Helpers:
    """The helpers of a process, which end with it. They begin when it is clear that they pay.

    Args:
        count: The number of samples; None where that is not known, and nothing can be divided.
        most: The most processes; None: as many as there are cores.
    """

    def __init__(self, count: int | None, most: int | None) -> None:
        self._count = count
        self._most = 1 if count is None else most or usable_cores()
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._work: tuple[Filling, Path] | None = None
        self._start, self._done = 0.0, 0

    def expect(self, num_bytes: int) -> None:
        """Begins where by the number of samples, and of bytes in their files, there is clearly much
        to do.
        """
        seconds = (self._count or 0) * _SAMPLE_SECONDS + num_bytes * _BYTE_SECONDS
        if not self._helpers and seconds > _LEAST_SECONDS:
            self._begin()

    def help_with(self, filling: Filling, output: Path) -> None:
        """Gives the work to helpers, to those who begin later, too.

        Args:
            output: Of the data set.
        """
        self._work = filling, output
        self._start = time.monotonic()
        for number, helper in enumerate(self._helpers, 1):
            self._give(helper, number)

    def watched(self, on_samples: Callable[[int], object]) -> Callable[[int], object]:
        """Returns the function that counts samples, which then also looks whether helpers pay."""
        if self._most == 1 or self._helpers:
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
        # Not by `multiprocessing`, whose processes import all that their owner's main file does.
        found_by = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        for number in range(1, self._most):
            helper = subprocess.Popen(
                [sys.executable, "-m", "pipeline.preparation.helpers"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=found_by,
            )
            self._helpers.append(helper)
            if self._work:
                self._give(helper, number)

    def _give(self, helper: subprocess.Popen[bytes], number: int) -> None:
        assert self._work is not None, "there is work"
        filling, output = self._work
        worker, most = filling.site.worker, self._most
        own = replace(worker, index=worker.index * most + number, count=worker.count and worker.count * most)
        work = pickle.dumps((replace(filling, site=replace(filling.site, worker=own)), output))

        def send() -> None:
            assert helper.stdin is not None, "it is a pipe"
            with suppress(OSError):  # it has ended
                helper.stdin.write(work)
                helper.stdin.flush()

        # Not here: it reads when it has begun, and a pipe takes 64 kB before that.
        threading.Thread(target=send, daemon=True).start()

    def __enter__(self) -> "Helpers":
        self.expect(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Ends all helpers."""
        for helper in self._helpers:
            helper.kill()  # at any instant, which nothing is lost by
        for helper in self._helpers:
            helper.wait()
            with suppress(OSError):
                assert helper.stdin is not None, "it is a pipe"
                helper.stdin.close()
        self._helpers = []


def main() -> NoReturn:
    """Helps the process that began this one, until either of them ends."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of them, and the owner acts on it
    with suppress(Exception):
        filling, output = pickle.load(sys.stdin.buffer)
        threading.Thread(target=_end_with_owner, daemon=True).start()
        _help(filling, output)
    os._exit(0)  # at once: what it wrote is on disk


def _help(filling: Filling, output: Path) -> None:
    filling.run(lambda count: None)
    pool = filling.pool()
    while (splits := read_splits(filling.site)) is None:
        time.sleep(_WAIT_SECONDS)
    if pool is not None:
        files = files_of_splits(output, pool, splits)
        write_parts(filling.site, parts_of(filling.site, output, pool, splits, files), lambda count: None)


def _end_with_owner() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
