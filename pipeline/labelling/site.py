"""The place where the workers of a dump meet: a folder with locks on a disk. (Those that share no
disk meet in an object store: remote_site.py.)
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pipeline.core.scratch import Scratch
from pipeline.labelling.records import Records
from pipeline.labelling.writer import StoreWriter
from pipeline.sharing.claims import Claims, Sharing
from pipeline.sharing.workers import Worker

_SAME_CODE = ("code", "torch", "device")  # labels of an earlier dump are taken over only where these are the same

Found = TypeVar("Found")


class Site(Protocol):
    """The place where the workers of a dump meet."""

    @property
    def worker(self) -> Worker:
        """The one that this process is."""

    @property
    def grow(self) -> Path | None:
        """A folder of finished stores whose labels are taken over; None: the dump before this one,
        if there is any.
        """

    @property
    def title(self) -> str:
        """The command in messages."""

    @property
    def claims(self) -> Sharing:
        """The way in which workers share the blocks."""

    @property
    def output(self) -> Path:
        """The folder in which this process writes stores."""

    @property
    def earlier(self) -> Path | None:
        """The folder of finished stores whose labels may be taken over; None: there is none."""

    @property
    def encodings_before(self) -> Mapping[str, Any]:
        """The rows that the dump before this one was asked for."""

    @property
    def done(self) -> bool:
        """Whether a worker has published."""

    def beginning(self) -> AbstractContextManager[None]:
        """Waits until nobody else begins, where that can be had."""

    def agreed(self, name: str, act: Callable[[Path], Found]) -> Found:
        """Returns what `act` makes of a file that the first worker writes and all others read; it
        writes the file where there is none.
        """

    def records(self, store: str) -> Records:
        """Returns the records of a store."""

    def look(self, writers: Mapping[str, StoreWriter]) -> bool:
        """Finds out which blocks are there by now; returns whether all are."""

    def finishing(self) -> AbstractContextManager[None]:
        """Waits until nobody else finishes, where that can be had."""

    def publish(self) -> None:
        """Puts the finished stores in their place."""


@dataclass(frozen=True)
class DumpSite:
    """A scratch folder and claims, on a disk with locks that all workers see."""

    scratch: Scratch
    claims: Claims
    worker: Worker
    grow: Path | None = None
    title: str = "dump_labels"

    @property
    def output(self) -> Path:
        return self.scratch.output

    @property
    def earlier(self) -> Path | None:
        if self.grow is not None:
            return self.grow
        decided = self.scratch.read_kept().get("decides", {})
        same = all(decided.get(name) == self.scratch.decides[name] for name in _SAME_CODE)
        return self.scratch.kept / "output" if same else None

    @property
    def encodings_before(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.scratch.read_kept().get("decides", {}).get("encodings", {})
        return found

    @property
    def done(self) -> bool:
        return self.scratch.done

    def beginning(self) -> AbstractContextManager[None]:
        return self.claims.hold("begin")

    def agreed(self, name: str, act: Callable[[Path], Found]) -> Found:
        return act(self.scratch.folder / name)

    def records(self, store: str) -> Records:
        return Records(self.scratch.folder / "records" / store)

    def look(self, writers: Mapping[str, StoreWriter]) -> bool:
        return True  # each is looked at when its turn comes

    @contextmanager
    def finishing(self) -> Iterator[None]:
        # Nobody may begin with what is about to be moved away.
        with self.claims.hold("finish"), self.claims.hold("begin"):
            if not self.done:
                self.scratch.sweep()  # otherwise what killed workers left counts as bytes of labels
            yield

    def publish(self) -> None:
        self.scratch.publish()  # and keeps the labels: a dump of more views or samples takes them over
