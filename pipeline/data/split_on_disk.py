"""A split on disk: its inputs are read row by row, chunk by chunk, or window by window."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from copy import copy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64, Integer, UInt64

from pipeline.core.arrays import ArrayGroup
from pipeline.core.threads import Pause
from pipeline.data.budget import MemoryBudget
from pipeline.data.content import IMAGES, Content
from pipeline.data.images import HeldImages, Placed, Storage, StoredImages, Wanted, open_images, placed
from pipeline.data.paging import Paging
from pipeline.data.sample_ids import SampleIndex
from pipeline.data.splits import HardLabels, Split, SplitInMemory
from pipeline.data.windows import Columns, Page, read_windows

_INPUTS = "inputs"  # the name of their column in a window


class SplitOnDisk(Split):
    """A split on disk, whose inputs are read as they are asked for.

    Only hard labels and ids are held, unless rows are asked to be: 17 bytes a sample (9 and one for
    each of several independent classes); 8 more where images are encoded, or where some rows are
    left out, and 16 once `index` is searched. Maps of classes are not held, except where some rows
    are left out.

    Inputs are compared with their ids when they are first read, which costs 2 microseconds and 1.7
    nanoseconds a pixel once; after that the checksum of each chunk must do. For encoded images it
    must always do, because another version of a decoder may round otherwise; the canaries of a
    store find one that does worse.

    Args:
        images: The images on disk.
        is_checked: True for rows whose inputs need not be compared.
        stored_rows: The rows on disk that the split has, ascending; None: all.
    """

    def __init__(
        self,
        where: Path,
        images: StoredImages,
        hard_labels: HardLabels,
        sample_ids: UInt64[np.ndarray, " samples"],
        is_checked: Bool[np.ndarray, " samples"],
        stored_rows: Int64[np.ndarray, " samples"] | None = None,
    ) -> None:
        self.content = images.content
        self._where, self._images, self._stored_rows = where, images, stored_rows
        self.hard_labels, self.sample_ids, self._is_checked = hard_labels, sample_ids, is_checked
        self._index = SampleIndex(sample_ids)  # here, so that copies of the split sort ids but once

    @classmethod
    def open(
        cls,
        group: ArrayGroup,
        hard_labels: HardLabels,
        storage: Storage,
        shape: Sequence[int],
        content: Content = IMAGES,
        kept_bytes: int = 0,
    ) -> "SplitOnDisk":
        """Returns the split of a group; raises StoreError where a file of it is lost."""
        ids = group.read_whole("sample_ids")
        images = open_images(group, storage, shape, len(ids), content, kept_bytes)
        is_checked = np.full(len(ids), storage == "encoded")
        return cls(group.path, images, hard_labels, ids, is_checked)

    @property
    def index(self) -> SampleIndex:
        return self._index

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self._images.shape)

    @property
    def is_streamed(self) -> bool:
        return True

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def held_bytes(self) -> int:
        return 0

    @property
    def chunk_rows(self) -> int:
        """The number of rows that are read together: reading fewer of them costs as much."""
        return self._images.chunk_rows

    def to(self, device: torch.device) -> "SplitOnDisk":
        """Returns this very split: nothing of it is held."""
        return self

    def read(self, rows: range) -> Integer[np.ndarray, "rows ..."]:
        """Returns the inputs of consecutive rows.

        Raises StoreError or DataError where they are damaged.
        """
        # Of rows that lie apart no two chunks are held at a time.
        place = None if self._stored_rows is None else np.empty((len(rows), *self.input_shape), self._dtype)
        (inputs,) = self._read_each([(rows, place)])
        return inputs

    def take(self, rows: Int64[np.ndarray, " some"]) -> SplitInMemory:
        """Returns some samples, in memory, in any order; whole chunks are read even for a few."""
        stored = rows if self._stored_rows is None else self._stored_rows[rows]
        inputs = self._check(rows, self._images.take(stored))
        return SplitInMemory(torch.from_numpy(inputs), self.hard_labels[rows], self.sample_ids[rows], self.content)

    def inputs_of(self, rows: Int64[torch.Tensor, " some"]) -> Integer[torch.Tensor, "some ..."]:
        return self.take(rows.numpy()).inputs

    def in_order(
        self, at_most: int, places: slice = slice(None), budget: MemoryBudget | None = None
    ) -> Iterator[Integer[torch.Tensor, "_ ..."]]:
        step = budget.rows_at_once(self.input_bytes, at_most) if budget else at_most
        rows = range(len(self))[places]
        for start in range(rows.start, rows.stop, step):
            yield torch.from_numpy(self.read(range(start, min(start + step, rows.stop))))

    def paging(self, budget: MemoryBudget | None, block_rows: int | None = None) -> Paging:
        assert budget is not None, "what is streamed has a budget"
        return budget.paging(self.input_bytes, len(self), self.chunk_rows, block_rows)

    def windows(self, windows: Sequence[Sequence[range]], beside: Callable[[range], Columns]) -> Iterator[Columns]:
        def read(pages: Iterator[Page | Pause]) -> Generator[Columns, None, None]:
            begun = deque[range]()

            def places() -> Iterator[tuple[range, Integer[np.ndarray, "rows ..."]] | Pause]:
                for page in pages:
                    if isinstance(page, Pause):
                        yield page
                        continue
                    begun.append(page.rows)
                    yield page.rows, page.buffer.column(_INPUTS, self.input_shape, self._dtype)[page.place]

            for _ in self._read_each(places()):
                yield beside(begun.popleft())

        return read_windows(windows, read)

    def window_inputs(self, columns: Columns) -> Integer[torch.Tensor, "held ..."]:
        return torch.from_numpy(columns[_INPUTS])

    def holding(self, rows: range, given_up: Callable[[], bool] = lambda: False) -> "SplitOnDisk":
        assert self._stored_rows is None, "rows are those on disk"
        held = copy(self)
        held._images = HeldImages(self._images, rows, given_up)
        if not given_up():
            held.read(rows)  # compares them with their ids
        return held

    def _only(self, rows: Int64[np.ndarray, " some"]) -> "SplitOnDisk":
        labels, ids, is_checked = self.hard_labels[rows], self.sample_ids[rows], self._is_checked[rows]
        return SplitOnDisk(self._where, self._images, labels, ids, is_checked, rows)

    @property
    def _dtype(self) -> np.dtype[Any]:
        return self.content.kind.dtype

    def _read_each(
        self, pages: Iterable[tuple[range, Integer[np.ndarray, "rows ..."] | None] | Pause]
    ) -> Iterator[Integer[np.ndarray, "rows ..."]]:
        """Yields the inputs of each page, at the place that comes with it; those of the next ones,
        up to a pause, may be under way meanwhile.

        Only pages of rows that are one piece on disk do without a place.
        """
        begun = deque[tuple[range, int, Integer[np.ndarray, "rows ..."] | None]]()

        def pieces() -> Iterator[Placed | Pause]:
            for each in pages:
                if isinstance(each, Pause):
                    yield each
                    continue
                page, place = each
                some: list[Wanted] = [(page, None)]
                if self._stored_rows is not None:
                    some = self._images.pieces(self._stored_rows[page.start : page.stop])
                begun.append((page, len(some), place))
                yield from [(page, None, None)] if place is None else placed(some, place)

        found = self._images.read_each(pieces())
        for inputs in found:  # the first piece of a page
            page, count, place = begun.popleft()
            deque(islice(found, count - 1), maxlen=0)
            yield self._check(slice(page.start, page.stop), inputs if place is None else place)

    def _check(
        self, rows: slice | Int64[np.ndarray, " some"], inputs: Integer[np.ndarray, "some ..."]
    ) -> Integer[np.ndarray, "some ..."]:
        if not self._is_checked[rows].all():
            self.content.check(inputs, self.sample_ids[rows], self._where)
            self._is_checked[rows] = True
        return inputs
