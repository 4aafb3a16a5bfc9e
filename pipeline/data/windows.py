"""Windows on their way from the disk: a thread reads the next one while the current one trains."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np

#: Values by name, one entry a row of a page or of a window.
Columns = Mapping[str, np.ndarray]


def read_windows(
    windows: Sequence[Sequence[range]], read: Callable[[Sequence[range]], Iterable[Columns]]
) -> Iterator[Columns]:
    """Yields the columns of each window, page after page as `read` yields them.

    A window is valid until the next one is asked for: then its memory is used again. No more than
    two are held. An error in the thread is raised here, when its window's turn comes. The thread
    ends with this iterator, even when it is left half-way.
    """
    size = max(sum(map(len, pages)) for pages in windows)
    buffers: tuple[dict[str, np.ndarray], ...] = ({}, {})
    given_up = Event()

    def load(number: int) -> Columns:
        # Two buffers take turns, and are allocated once: fresh ones cost page faults in each
        # window.
        buffer, place = buffers[number % 2], 0
        for page, columns in zip(windows[number], read(windows[number]), strict=True):
            if given_up.is_set():
                break
            for name, values in columns.items():
                if name not in buffer:
                    buffer[name] = np.empty((size, *values.shape[1:]), values.dtype)
                buffer[name][place : place + len(page)] = values
            place += len(page)
        return {name: values[:place] for name, values in buffer.items()}

    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        try:
            # 1. The first window is waited for.
            coming = thread.submit(load, 0)
            for number in range(len(windows)):
                window = coming.result()
                # 2. The next one is read into the other buffer, whose window nobody uses any more.
                if number + 1 < len(windows):
                    coming = thread.submit(load, number + 1)
                # 3. The caller trains on this one meanwhile.
                yield window
        finally:
            given_up.set()  # or leaving would wait for a whole window
