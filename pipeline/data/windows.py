"""Windows on their way from the disk: a thread reads the next one while the current one trains."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore
from typing import Any

import numpy as np

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


def read_windows(
    windows: Sequence[Sequence[range]], read: Callable[[Sequence[range], Buffer], Iterable[Columns]]
) -> Iterator[Columns]:
    """Yields the columns of each window, page after page as `read` yields them, and what `read` put
    into the window's buffer itself.

    A window is valid until the next one is asked for: then its memory is used again. No more than
    two are held. An error in the thread is raised here, when its window's turn comes. The thread
    ends with this iterator, even when it is left half-way.
    """
    size = max(sum(map(len, pages)) for pages in windows)
    buffers = Buffer(size), Buffer(size)  # they take turns
    free, given_up = Semaphore(len(buffers)), Event()

    def load(number: int) -> Columns:
        free.acquire()
        buffer, place = buffers[number % 2], 0
        for page, columns in zip(windows[number], read(windows[number], buffer), strict=True):
            if given_up.is_set():
                break
            for name, values in columns.items():
                buffer.column(name, values.shape[1:], values.dtype)[place : place + len(page)] = values
            place += len(page)
        return buffer.first(place)

    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        # The thread goes on to the next window by itself, as soon as there is a buffer for it: to
        # be woken up for each one takes it milliseconds, while others hold Python's lock.
        coming = deque(thread.submit(load, number) for number in range(len(windows)))
        try:
            while coming:
                yield coming.popleft().result()
                free.release()  # nobody uses this window any more
        finally:
            given_up.set()  # or leaving would wait for a whole window
            free.release()
            thread.shutdown(wait=False, cancel_futures=True)
