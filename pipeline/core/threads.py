"""Work that several threads share, a little ahead of who takes it."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4  # items per worker that wait to be taken, or are at work


class Pause:
    """A mark between items: the next one comes once all results before it were taken."""


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item | Pause], workers: int
) -> Generator[Result, None, None]:
    """Yields the function of each item, in order; several threads work a little ahead, where there
    is to be more than one.

    Threads are enough, because PIL decodes and the system reads without holding Python's lock.
    """
    if workers == 1:
        for item in items:
            if not isinstance(item, Pause):
                yield function(item)
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            if isinstance(item, Pause):
                most = 0
            else:
                waiting.append(pool.submit(function, item))
                most = workers * _AHEAD - 1
            while len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def usable_cores() -> int:
    """Returns the cores that this process may run on: a batch system may give it some of the
    machine's.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def own_cores() -> int:
    """Returns the cores that are for this process's threads: where it is a worker of a DataLoader,
    its share of them.
    """
    return max(1, usable_cores() // loader_workers())


def loader_workers() -> int:
    """Returns how many workers share what this process may take: those of its DataLoader, or it is
    none of any.
    """
    from torch.utils.data import get_worker_info

    worker = get_worker_info()
    return worker.num_workers if worker else 1
