"""Claims, by which processes that share a folder and nothing else divide their work."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from pipeline.core.locks import Lock


class Sharing(Protocol):
    """The way in which workers divide blocks of work.

    Attributes:
        blocks_behind: The number of blocks that wait to be written while the next ones are made, at
            least.
        over: Whether another process has finished all the work meanwhile.
    """

    blocks_behind: int
    over: Callable[[], bool]

    def attempt(self, name: str) -> AbstractContextManager[bool]:
        """Takes a block for as long as it is worked on; yields whether it could be had."""

    def skipped(self, count: int) -> int:
        """Returns the number of blocks to go past before the next one, of `count` that are left:
        they come last.
        """


class Claims:
    """A set of names, each of which one process at a time holds. The operating system lets go of a
    dead process's claims, so that any other process can take its work over.

    Args:
        over: Whether another process has finished all the work meanwhile.
    """

    blocks_behind = 0

    def __init__(self, folder: Path, over: Callable[[], bool] = lambda: False) -> None:
        self._folder = folder
        self.over = over

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Waits for the name and holds it."""
        with Lock(self._folder / f"{name}.lock").hold(f"{self._folder.name}: {name}"):
            yield

    @contextmanager
    def attempt(self, name: str) -> Iterator[bool]:
        """Holds the name if nobody else does; yields whether it is held."""
        lock = Lock(self._folder / f"{name}.lock")
        if not lock.attempt():
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def skipped(self, count: int) -> int:
        return 0  # who meets another's claim finds the next block free
