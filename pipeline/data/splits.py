"""One split of a data set, in memory or on disk: inputs, hard labels and sample ids.

A sample id is derived from a sample's input alone, so labels follow their sample wherever it goes.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64, Integer, Shaped, UInt64

from pipeline.data.budget import MemoryBudget
from pipeline.data.content import IMAGES, Content
from pipeline.data.hard_labels import UNLABELLED, is_labelled
from pipeline.data.paging import Paging
from pipeline.data.sample_ids import SampleIndex
from pipeline.data.windows import Columns

HardLabels = Shaped[torch.Tensor, "samples ..."]


def known_classes(hard_label: Shaped[torch.Tensor, "..."]) -> int | list[int] | None:
    """Returns the class of a sample; of independent ones, those that are yes; of a map, those in
    it. None where nothing is known.
    """
    if not is_labelled(hard_label[None]).item():
        return None
    if hard_label.ndim == 2:
        return [number for number in hard_label.unique().tolist() if number != UNLABELLED]
    classes: int | list[int] = (hard_label == 1).nonzero()[:, 0].tolist() if hard_label.ndim else int(hard_label)
    return classes


def unknown_classes(hard_label: Shaped[torch.Tensor, "..."]) -> list[int] | None:
    """Returns the independent classes of which nothing is known; None where classes are not
    independent.
    """
    unknown: list[int] | None = (hard_label == UNLABELLED).nonzero()[:, 0].tolist() if hard_label.ndim == 1 else None
    return unknown


class Split(ABC):
    """A split of a data set: samples with their inputs, hard labels and ids, by row."""

    hard_labels: HardLabels
    sample_ids: UInt64[np.ndarray, " samples"]
    content: Content

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
    def input_bytes(self) -> int:
        """The bytes of one sample's input."""
        return math.prod(self.input_shape) * self.content.kind.dtype.itemsize

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
        """The bytes of inputs, and of their maps of classes, that are held in memory."""

    @abstractmethod
    def to(self, device: torch.device) -> "Split":
        """Returns the same samples with what is held in memory on a device."""

    @abstractmethod
    def take(self, rows: Int64[np.ndarray, " some"]) -> "SplitInMemory":
        """Returns some samples, in memory, in any order."""

    @abstractmethod
    def inputs_of(self, rows: Int64[torch.Tensor, " some"]) -> Integer[torch.Tensor, "some ..."]:
        """Returns the inputs of some rows, in any order; no device is waited for."""

    @abstractmethod
    def in_order(
        self, at_most: int, places: slice = slice(None), budget: MemoryBudget | None = None
    ) -> Iterator[Integer[torch.Tensor, "_ ..."]]:
        """Yields the inputs as they are, all or those of some consecutive rows.

        Args:
            at_most: So many at a time; of a split on disk fewer where the budget is small.
        """

    def first(self, count: int) -> Integer[torch.Tensor, "_ ..."]:
        """Returns the inputs of the first samples, at most so many, as they are."""
        return next(self.in_order(count, slice(0, count)))

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
    def window_inputs(self, columns: Columns) -> Integer[torch.Tensor, "held ..."]:
        """Returns the inputs of a window from what was read for it."""

    @abstractmethod
    def holding(self, rows: range, given_up: Callable[[], bool] = lambda: False) -> "Split":
        """Returns the same split with consecutive rows in memory, to be taken again and again.

        Args:
            given_up: As for `HeldImages`.
        """

    def labelled(self) -> "Split":
        """Returns the labelled samples; this very split where all are."""
        rows = np.flatnonzero(is_labelled(self.hard_labels.numpy()))
        return self if len(rows) == len(self) else self._only(rows)

    @abstractmethod
    def _only(self, rows: Int64[np.ndarray, " some"]) -> "Split":
        """Returns a split of the same class with some rows, ascending."""


@dataclass(frozen=True)
class SplitInMemory(Split):
    """A split in memory: this machine's, or that of a device."""

    inputs: Integer[torch.Tensor, "samples ..."]
    hard_labels: HardLabels
    sample_ids: UInt64[np.ndarray, " samples"]
    content: Content = IMAGES

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
        return self.inputs.nbytes + (self.hard_labels.nbytes if self.hard_labels.ndim == 3 else 0)

    def to(self, device: torch.device) -> "SplitInMemory":
        """Returns the same samples with inputs and hard labels on a device.

        It is this very split where they are there already.
        """
        if self.inputs.device == device:
            return self
        return SplitInMemory(self.inputs.to(device), self.hard_labels.to(device), self.sample_ids, self.content)

    def take(self, rows: Int64[np.ndarray, " some"]) -> "SplitInMemory":
        return SplitInMemory(self.inputs[rows], self.hard_labels[rows], self.sample_ids[rows], self.content)

    def inputs_of(self, rows: Int64[torch.Tensor, " some"]) -> Integer[torch.Tensor, "some ..."]:
        return self.inputs[rows.to(self.inputs.device, non_blocking=True)]

    def in_order(
        self, at_most: int, places: slice = slice(None), budget: MemoryBudget | None = None
    ) -> Iterator[Integer[torch.Tensor, "_ ..."]]:
        return iter(self.inputs[places].split(at_most))

    def paging(self, budget: MemoryBudget | None, block_rows: int | None = None) -> Paging:
        return Paging.whole(len(self))

    def windows(self, windows: Sequence[Sequence[range]], beside: Callable[[range], Columns]) -> Iterator[Columns]:
        assert len(windows) == 1, "one window holds all"
        return iter([{}])

    def window_inputs(self, columns: Columns) -> Integer[torch.Tensor, "held ..."]:
        return self.inputs

    def holding(self, rows: range, given_up: Callable[[], bool] = lambda: False) -> "SplitInMemory":
        return self

    def _only(self, rows: Int64[np.ndarray, " some"]) -> "SplitInMemory":
        return self.take(rows)
