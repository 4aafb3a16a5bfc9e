"""Claims, by which processes that share a folder and nothing else divide their work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.locks import Lock


class Claims:
    """A set of names, each of which one process at a time holds. The operating system lets go of a
    dead process's claims, so that any other process can take its work over.

    Args:
        over: Whether another process has finished all the work meanwhile.
    """

    def __init__(self, folder: Path, over: Callable[[], bool] = lambda: False) -> None:
        self._folder = folder
        self.over = over
        folder.mkdir(parents=True, exist_ok=True)

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
