"""Blocks that are written in a thread while the next ones are computed."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from types import TracebackType

import torch

from pipeline.labelling.copies import in_own_queue

#: Blocks that wait to be written while the teacher goes on, by kind of device. A processor would
#: only take the time from itself; and a process that is killed loses these blocks, beside the one
#: that it computes.
_BLOCKS_BEHIND = {"cuda": 2}


class WriteBehind:
    """A writer of blocks in a thread, in their order, while the teacher goes on.

    Where no block may wait, each is written at once, in the thread that it comes from.

    What goes wrong is raised by one of the next calls, and nothing is written after it. A block's
    claim is kept until it is written.

    Args:
        at_least: Blocks that may wait on any device, since writing them is waiting, too."""

    def __init__(self, device: torch.device, at_least: int = 0) -> None:
        self._most = max(_BLOCKS_BEHIND.get(device.type, 0), at_least)
        self._ready = in_own_queue(device)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write-behind")
        self._waiting: deque[tuple[Future[None], ExitStack]] = deque()
        self._failed = False

    def __enter__(self) -> "WriteBehind":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish()
        finally:
            self._thread.shutdown()
            for _, claimed in self._waiting:
                claimed.close()

    def add(self, write: Callable[[], None], claimed: ExitStack) -> None:
        """Takes a block to be written, and its claim; waits while too many blocks wait."""
        if not self._most:
            with claimed:
                write()
            return
        self._waiting.append((self._thread.submit(partial(self._write, self._ready(write))), claimed))
        while len(self._waiting) > self._most or (self._waiting and self._waiting[0][0].done()):
            self._end_first()

    def finish(self) -> None:
        """Waits until all is written."""
        while self._waiting:
            self._end_first()

    def _end_first(self) -> None:
        done, claimed = self._waiting.popleft()
        with claimed:
            done.result()

    def _write(self, write: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            write()
        except BaseException:
            self._failed = True
            raise
