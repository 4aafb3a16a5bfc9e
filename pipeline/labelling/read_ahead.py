"""Ranges of inputs, read in a thread while those before them are worked on."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType

from pipeline.data.splits import Split


class ReadAhead:
    """A split of which one range of rows after another is in memory, and at most two at a time; one
    that is in memory as a whole is given as it is.

    Args:
        ranges: In the order in which they will be asked for, each once or several times in a row.
            What comes out of turn is right, too, but waits for what was read in vain.
    """

    def __init__(self, split: Split, ranges: Iterable[range]) -> None:
        self._split = split
        self._following = dict(pairwise(dict.fromkeys(ranges)))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._rows: range | None = None
        self._held: Split = split
        self._coming: dict[range, Future[Split]] = {}
        self._wanted: range | None = None  # of what is being read

    def __enter__(self) -> "ReadAhead":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wanted = None
        self._thread.shutdown(cancel_futures=True)

    def holding(self, rows: range) -> Split:
        """Returns the split with these rows in memory; raises StoreError or DataError where they
        are damaged on disk.
        """
        if self._split.is_streamed and rows != self._rows:
            self._held = self._split  # lets go of the rows before
            coming = self._coming.pop(rows, None) or self._read(self._split, rows)
            self._coming.clear()
            self._held, self._rows = coming.result(), rows
            if following := self._following.get(rows):
                self._coming[following] = self._read(self._split, following)
        return self._held

    def _read(self, split: Split, rows: range) -> Future[Split]:
        """Returns rows that the thread reads as long as no others are wanted."""
        self._wanted = rows
        return self._thread.submit(split.holding, rows, lambda: self._wanted != rows)
