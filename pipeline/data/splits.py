"""One split of a data set, in memory or on disk: inputs, hard labels and sample ids.

A sample id is derived from a sample's input alone, so labels follow their sample wherever it goes.
The hard label of an unlabelled sample is -1; only the training split has any.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8, UInt64

from pipeline.core.arrays import ArrayGroup
from pipeline.data.budget import MemoryBudget
from pipeline.data.images import HeldImages, Storage, StoredImages, open_images
from pipeline.data.paging import Paging
from pipeline.data.sample_ids import SampleIndex, check_images
from pipeline.data.windows import Columns, read_windows

UNLABELLED = -1  # in place of a hard label
_INPUTS = "inputs"  # the name of their column in a window


class Split(ABC):
    """A split of a data set: samples with their inputs, hard labels and ids, by row."""

    hard_labels: Int64[torch.Tensor, " samples"]
    sample_ids: UInt64[np.ndarray, " samples"]

    def __len__(self) -> int:
        return len(self.hard_labels)

    @property
    @abstractmethod
    def index(self) -> SampleIndex:
        """The row of each sample id."""

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample's input."""

    @property
    @abstractmethod
    def is_streamed(self) -> bool:
        """Whether inputs are read from the disk as they are asked for."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device on which inputs come; views of them are rendered there."""

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """The bytes of inputs that are held in memory."""

    @abstractmethod
    def to(self, device: torch.device) -> "Split":
        """Returns the same samples with what is held in memory on a device."""

    @abstractmethod
    def take(self, rows: Int64[np.ndarray, " some"]) -> "SplitInMemory":
        """Returns some samples, in memory, in any order."""

    @abstractmethod
    def inputs_of(self, rows: Int64[torch.Tensor, " some"]) -> UInt8[torch.Tensor, "some ..."]:
        """Returns the inputs of some rows, in any order; no device is waited for."""

    @abstractmethod
    def in_order(
        self, at_most: int, places: slice = slice(None), budget: MemoryBudget | None = None
    ) -> Iterator[UInt8[torch.Tensor, "_ ..."]]:
        """Yields the inputs as they are, all or those of some consecutive rows.

        Args:
            at_most: So many at a time; of a split on disk fewer where the budget is small.
        """

    @abstractmethod
    def paging(self, budget: MemoryBudget | None, block_rows: int | None = None) -> Paging:
        """Returns how an epoch goes through the split; in memory it is one window.

        Args:
            budget: A split on disk needs one.
            block_rows: Pages of a split on disk are of just so many rows.

        Raises:
            ConfigError: The budget is too small for one page.
        """

    @abstractmethod
    def windows(self, windows: Sequence[Sequence[range]], beside: Callable[[range], Columns]) -> Iterator[Columns]:
        """Yields what is read for each window, given its pages: nothing for a split in memory.

        Args:
            beside: Returns what else a window needs of a page; read with its inputs.
        """

    @abstractmethod
    def window_inputs(self, columns: Columns) -> UInt8[torch.Tensor, "held ..."]:
        """Returns the inputs of a window from what was read for it."""

    @abstractmethod
    def holding(self, rows: range, given_up: Callable[[], bool] = lambda: False) -> "Split":
        """Returns the same split with consecutive rows in memory, to be taken again and again.

        Args:
            given_up: As for `HeldImages`.
        """

    def labelled(self) -> "Split":
        """Returns the labelled samples; this very split where all are."""
        rows = np.flatnonzero(self.hard_labels.numpy() != UNLABELLED)
        return self if len(rows) == len(self) else self._only(rows)

    @abstractmethod
    def _only(self, rows: Int64[np.ndarray, " some"]) -> "Split":
        """Returns a split of the same class with some rows, ascending."""


@dataclass(frozen=True)
class SplitInMemory(Split):
    """A split in memory: this machine's, or that of a device."""

    inputs: UInt8[torch.Tensor, "samples ..."]
    hard_labels: Int64[torch.Tensor, " samples"]
    sample_ids: UInt64[np.ndarray, " samples"]

    @cached_property
    def index(self) -> SampleIndex:
        return SampleIndex(self.sample_ids)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.inputs.shape[1:])

    @property
    def is_streamed(self) -> bool:
        return False

    @property
    def device(self) -> torch.device:
        return self.inputs.device

    @property
    def held_bytes(self) -> int:
        return self.inputs.nbytes

    def to(self, device: torch.device) -> "SplitInMemory":
        """Returns the same samples with inputs and hard labels on a device; this very split where they are."""
        if self.inputs.device == device:
            return self
        return SplitInMemory(self.inputs.to(device), self.hard_labels.to(device), self.sample_ids)

    def take(self, rows: Int64[np.ndarray, " some"]) -> "SplitInMemory":
        return SplitInMemory(self.inputs[rows], self.hard_labels[rows], self.sample_ids[rows])

    def inputs_of(self, rows: Int64[torch.Tensor, " some"]) -> UInt8[torch.Tensor, "some ..."]:
        return self.inputs[rows.to(self.inputs.device, non_blocking=True)]

    def in_order(
        self, at_most: int, places: slice = slice(None), budget: MemoryBudget | None = None
    ) -> Iterator[UInt8[torch.Tensor, "_ ..."]]:
        return iter(self.inputs[places].split(at_most))

    def paging(self, budget: MemoryBudget | None, block_rows: int | None = None) -> Paging:
        return Paging.whole(len(self))

    def windows(self, windows: Sequence[Sequence[range]], beside: Callable[[range], Columns]) -> Iterator[Columns]:
        assert len(windows) == 1, "one window holds all"
        return iter([{}])

    def window_inputs(self, columns: Columns) -> UInt8[torch.Tensor, "held ..."]:
        return self.inputs

    def holding(self, rows: range, given_up: Callable[[], bool] = lambda: False) -> "SplitInMemory":
        return self

    def _only(self, rows: Int64[np.ndarray, " some"]) -> "SplitInMemory":
        return self.take(rows)


class SplitOnDisk(Split):
    """A split on disk, whose inputs are read as they are asked for.

    Only hard labels and ids are held, unless rows are asked to be: 17 bytes a sample; 8 more where
    images are encoded, or where some rows are left out, and 16 once `index` is searched.

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
        hard_labels: Int64[torch.Tensor, " samples"],
        sample_ids: UInt64[np.ndarray, " samples"],
        is_checked: Bool[np.ndarray, " samples"],
        stored_rows: Int64[np.ndarray, " samples"] | None = None,
    ) -> None:
        self._where, self._images, self._stored_rows = where, images, stored_rows
        self.hard_labels, self.sample_ids, self._is_checked = hard_labels, sample_ids, is_checked
        self._index = SampleIndex(sample_ids)  # here, so that copies of the split sort ids but once

    @classmethod
    def open(cls, group: ArrayGroup, storage: Storage, shape: Sequence[int]) -> "SplitOnDisk":
        """Returns the split of a group; raises StoreError where a file of it is lost."""
        labels, ids = torch.from_numpy(group.read_whole("hard_labels")), group.read_whole("sample_ids")
        images = open_images(group, storage, shape, len(ids))
        return cls(group.path, images, labels, ids, np.full(len(ids), storage == "encoded"))

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
        """The number of rows that are read together: fewer, or some across a border, cost as much."""
        return self._images.chunk_rows

    def to(self, device: torch.device) -> "SplitOnDisk":
        """Returns this very split: nothing of it is held."""
        return self

    def read(self, rows: range) -> UInt8[np.ndarray, "rows ..."]:
        """Returns the inputs of consecutive rows; raises StoreError or DataError where they are damaged."""
        if self._stored_rows is None:
            inputs = self._images.read(rows)
        else:
            inputs = self._pick(self._stored_rows[rows.start : rows.stop])
        return self._check(slice(rows.start, rows.stop), inputs)

    def take(self, rows: Int64[np.ndarray, " some"]) -> SplitInMemory:
        """Returns some samples, in memory, in any order; whole chunks are read even for a few."""
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        stored = ascending if self._stored_rows is None else self._stored_rows[ascending]
        inputs = self._check(ascending, self._pick(stored))
        if not np.array_equal(order, np.arange(len(rows))):
            inputs = inputs[np.argsort(order)]
        return SplitInMemory(torch.from_numpy(inputs), self.hard_labels[rows], self.sample_ids[rows])

    def inputs_of(self, rows: Int64[torch.Tensor, " some"]) -> UInt8[torch.Tensor, "some ..."]:
        return self.take(rows.numpy()).inputs

    def in_order(
        self, at_most: int, places: slice = slice(None), budget: MemoryBudget | None = None
    ) -> Iterator[UInt8[torch.Tensor, "_ ..."]]:
        step = budget.rows_at_once(self.input_shape, at_most) if budget else at_most
        rows = range(len(self))[places]
        for start in range(rows.start, rows.stop, step):
            yield torch.from_numpy(self.read(range(start, min(start + step, rows.stop))))

    def paging(self, budget: MemoryBudget | None, block_rows: int | None = None) -> Paging:
        assert budget is not None, "what is streamed has a budget"
        return budget.paging(self.input_shape, len(self), self.chunk_rows, block_rows)

    def windows(self, windows: Sequence[Sequence[range]], beside: Callable[[range], Columns]) -> Iterator[Columns]:
        return read_windows(windows, lambda page: {_INPUTS: self.read(page), **beside(page)})

    def window_inputs(self, columns: Columns) -> UInt8[torch.Tensor, "held ..."]:
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

    def _pick(self, stored: Int64[np.ndarray, " some"]) -> UInt8[np.ndarray, "some ..."]:
        """Returns ascending rows of what is on disk.

        Each chunk is read once, and no two are held at a time.
        """
        inputs = np.empty((len(stored), *self.input_shape), dtype=np.uint8)
        if len(stored) == 0:
            return inputs
        borders = np.flatnonzero(np.diff(stored // self.chunk_rows)) + 1
        for low, high in pairwise([0, *borders.tolist(), len(stored)]):
            first, last = int(stored[low]), int(stored[high - 1])
            inputs[low:high] = self._images.read(range(first, last + 1), stored[low:high] - first)
        return inputs

    def _check(
        self, rows: slice | Int64[np.ndarray, " some"], inputs: UInt8[np.ndarray, "some ..."]
    ) -> UInt8[np.ndarray, "some ..."]:
        if not self._is_checked[rows].all():
            check_images(inputs, self.sample_ids[rows], self._where)
            self._is_checked[rows] = True
        return inputs
