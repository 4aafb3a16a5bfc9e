"""Windows on their way from the disk: a thread reads the next one while the current one trains."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event, Semaphore
from typing import Any, NamedTuple

import numpy as np

from pipeline.core.threads import Pause

#: Values by name, one entry a row of a page or of a window.
Columns = Mapping[str, np.ndarray]


class Buffer:
    """The memory of a window, column by column, used again for window after window: fresh memory
    costs page faults.
    """

    def __init__(self, rows: int) -> None:
        self._rows, self._columns = rows, dict[str, np.ndarray]()

    def column(self, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray:
        """Returns the memory of all rows of a column, given the shape of one."""
        if name not in self._columns:
            self._columns[name] = np.empty((self._rows, *shape), dtype)
        return self._columns[name]

    def first(self, rows: int) -> Columns:
        """Returns all columns of the first rows."""
        return {name: values[:rows] for name, values in self._columns.items()}


class Page(NamedTuple):
    """A page that is to be read: its rows, the buffer of its window, and its place there."""

    rows: range
    buffer: Buffer
    place: slice


class _GivenUpError(Exception):
    """An error that ends the thread: nobody wants windows any more."""


def read_windows(
    windows: Sequence[Sequence[range]], read: Callable[[Iterator[Page | Pause]], Generator[Columns, None, None]]
) -> Iterator[Columns]:
    """Yields the columns of each window: those that `read` yields page after page, and what it put
    into the buffers itself.

    A window is valid until the next one is asked for: then its memory is used again. No more than
    two are held. An error in the thread is raised here, when its window's turn comes. The thread
    ends with this iterator, even when it is left half-way.

    Args:
        read: It may ask for pages ahead of what it yields, up to a pause.
    """
    size = max(sum(map(len, pages)) for pages in windows)
    buffers = Buffer(size), Buffer(size)  # they take turns
    free, given_up = Semaphore(len(buffers)), Event()

    def wanted() -> Iterator[Page | Pause]:
        for number, pages in enumerate(windows):
            # The thread goes on to the next window by itself, as soon as there is a buffer for it:
            # until it were woken up for each, those that decode would have nothing to do.
            if not free.acquire(blocking=False):
                yield Pause()  # who uses the buffer may wait for the window that is under way
                free.acquire()
            start = 0
            for rows in pages:
                if given_up.is_set():
                    raise _GivenUpError
                yield Page(rows, buffers[number % 2], slice(start, start + len(rows)))
                start += len(rows)

    def load(number: int) -> Columns:
        buffer, start = buffers[number % 2], 0
        for rows in windows[number]:
            for name, values in next(found).items():
                buffer.column(name, values.shape[1:], values.dtype)[start : start + len(rows)] = values
            start += len(rows)
        return buffer.first(start)

    with closing(read(wanted())) as found, ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        coming = deque(thread.submit(load, number) for number in range(len(windows)))
        try:
            while coming:
                yield coming.popleft().result()
                free.release()  # nobody uses this window any more
        finally:
            given_up.set()  # or leaving would wait for a whole window
            free.release()
            thread.shutdown(wait=False, cancel_futures=True)
