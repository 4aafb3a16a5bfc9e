"""Data that does not fit in memory: the order in which an epoch goes through it, and a thread that reads ahead.

An epoch takes *pages* of consecutive rows, which are what a disk reads well, in a random order; as many as fit in
memory are a *window*, whose rows are shuffled. The next window is read and decompressed while the current one trains,
so that no more than two are held. What is in memory as a whole is one page and one window.
"""

import ctypes
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from pipeline.core.errors import ConfigError
from pipeline.core.progress import say
from pipeline.core.seeding import derive_seed, permutation, shuffle
from pipeline.data.dataset import DatasetManifest, ImageDataset
from pipeline.data.splits import Split, StreamedSplit

PAGE_BYTES = 1 << 20
_PAGES = 16  # in a window at least, where inner chunks on disk are small enough: they are what is shuffled
_BATCHES = 5  # of pixels: gathered, padded, rendered, and those of the step before
_BESIDE_BYTES = 256  # for each row of a window: its place in the order and what is drawn for its view
_MEGABYTE = 1_000_000
_M_ARENA_MAX = -8  # malloc.h

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Paging:
    """How an epoch goes through the rows of a split: pages in random order, `window_pages` of them at a time."""

    num_rows: int
    page_rows: int
    window_pages: int

    @classmethod
    def whole(cls, num_rows: int) -> "Paging":
        """One window that holds all."""
        return cls(num_rows, max(1, num_rows), 1)

    @property
    def window_rows(self) -> int:
        """At most."""
        return min(self.num_rows, self.page_rows * self.window_pages)

    def pages(self) -> list[range]:
        """Every page, in the order of the rows."""
        return [
            range(start, min(start + self.page_rows, self.num_rows))
            for start in range(0, self.num_rows, self.page_rows)
        ]

    def windows(self, epoch: int, seed: int) -> list[list[range]]:
        """The pages of each window of an epoch, ascending within it; windows are of even size."""
        pages = self.pages()
        order = permutation(derive_seed(seed, "pages"), len(pages), epoch)
        parts = np.array_split(order, -(-len(pages) // self.window_pages))
        return [[pages[number] for number in np.sort(part)] for part in parts]


def window_rows(pages: Sequence[range]) -> Int64[np.ndarray, " rows"]:
    """The rows of some pages."""
    return np.concatenate([np.arange(page.start, page.stop) for page in pages])


def window_order(rows: Int64[np.ndarray, " rows"], epoch: int, seed: int) -> Int64[np.ndarray, " rows"]:
    """Places in a window, in the order in which its rows are taken: as they follow each other in memory."""
    return shuffle(derive_seed(seed, "order"), rows, epoch)


@dataclass(frozen=True)
class MemoryBudget:
    """How many bytes of images and stored labels may be held at a time, and the setting that says so.

    A few batches of pixels are set aside first. Of what is left, a quarter each goes to the window that trains, the
    window that is being read, stored labels, and pages on their way from the disk. A dump, which has blocks instead of
    windows, holds the images of two. Ids, hard labels and logits come on top: some 40 bytes a sample.
    """

    num_bytes: int
    batch_size: int
    where: str

    @classmethod
    def of_megabytes(cls, megabytes: int, batch_size: int, where: str) -> "MemoryBudget":
        return cls(megabytes * _MEGABYTE, batch_size, where)

    def __str__(self) -> str:
        return f"{self.num_bytes / _MEGABYTE:,g} MB"

    def holds(self, data: DatasetManifest, *names: str) -> bool:
        """Whether the images of some splits take at most three quarters of it, and so stay in memory."""
        return data.image_bytes(*names) <= self.num_bytes * 3 // 4

    def check_blocks(self, data: DatasetManifest, block_rows: int) -> None:
        """Raises ConfigError where the images of two blocks of the training split do not fit."""
        rows = min(block_rows, data.num_samples["train"])
        needed = 2 * rows * math.prod(data.image_shape) + self._aside(data.image_shape)
        if needed > self.num_bytes:
            if (whole := data.image_bytes("train") * 4 // 3) < needed:
                raise ConfigError(self.where, str(self), expected=f"at least {-(-whole // _MEGABYTE)} for all images")
            blocks = f"two blocks of {block_rows:,} images and batches of {self.batch_size:,}"
            fix = "raise it, or lower block_samples or batch_size"
            expected = f"at least {-(-needed // _MEGABYTE)} for {blocks}"
            raise ConfigError(self.where, str(self), expected=expected, fix=fix)

    def check_window(self, image_shape: Sequence[int], rows: int) -> None:
        """Raises ConfigError where not even so many rows fit in a window."""
        needed = rows * _row_bytes(image_shape)
        if self.share(image_shape) < needed:
            least = f"at least {self.least(image_shape, needed)} for batches of {self.batch_size}"
            raise ConfigError(self.where, str(self), expected=f"{least} and windows of {rows} images")

    def share(self, image_shape: Sequence[int]) -> int:
        """The bytes of that quarter."""
        return (self.num_bytes - self._aside(image_shape)) // 4

    def paging(self, split: StreamedSplit, block_rows: int | None = None) -> Paging:
        """A split's pages: whole inner chunks on disk, about 1 MB; a pure function of the data set and this budget.

        Args:
            block_rows: Pages are of just so many rows.

        Raises:
            ConfigError: Not even one page fits in a window.
        """
        row_bytes, share = _row_bytes(split.image_shape), self.share(split.image_shape)
        rows = min(block_rows or split.chunk_rows, len(split))
        self.check_window(split.image_shape, rows)
        if block_rows is None:
            rows *= max(1, min(PAGE_BYTES, share // _PAGES) // (rows * row_bytes))
        return Paging(len(split), rows, share // (rows * row_bytes))

    def least(self, image_shape: Sequence[int], share: int) -> int:
        """The smallest budget, in whole MB, whose quarter is `share` bytes."""
        return -(-(4 * share + self._aside(image_shape)) // _MEGABYTE)

    def _aside(self, image_shape: Sequence[int]) -> int:
        return _BATCHES * self.batch_size * math.prod(image_shape)


def _row_bytes(image_shape: Sequence[int]) -> int:
    return math.prod(image_shape) + _BESIDE_BYTES


def open_splits(
    dataset: ImageDataset, budget: MemoryBudget, label_bytes: int
) -> tuple[Split | StreamedSplit, Split | StreamedSplit]:
    """Training and validation split: in memory where both take at most three quarters of the budget, else on disk.

    Labels have no part in that, because it decides the order of an epoch: a student sees the same in whatever company.

    Args:
        label_bytes: Of one view of each store that is read, which must be held beside images that are in memory.

    Raises:
        ConfigError: Images fit in memory, but not with the labels.
    """
    images = dataset.manifest.image_bytes("train", "val")
    if not budget.holds(dataset.manifest, "train", "val"):
        _begin_streaming(dataset, budget, images)
        return dataset.stream("train"), dataset.stream("val")
    if images + label_bytes > budget.num_bytes:
        least = -(-(images + label_bytes) // _MEGABYTE)
        raise ConfigError(budget.where, str(budget), expected=f"at least {least} for the images and one view's labels")
    return dataset.split("train"), dataset.split("val")


def open_for_blocks(dataset: ImageDataset, budget: MemoryBudget, block_rows: int) -> Split | StreamedSplit:
    """The training split, for labelling it block by block: in memory where it takes at most three quarters of the budget,
    else on disk.

    Raises:
        ConfigError: The budget is too small for the images of two blocks, of which one is read while the other is labelled.
    """
    data = dataset.manifest
    if budget.holds(data, "train"):
        return dataset.split("train")
    budget.check_blocks(data, block_rows)
    _begin_streaming(dataset, budget, data.image_bytes("train"))
    return dataset.stream("train")


def _begin_streaming(dataset: ImageDataset, budget: MemoryBudget, num_bytes: int) -> None:
    told = f"more than three quarters of {budget}, so they are streamed from {dataset.folder}"
    say(f"{budget.where}: images take {num_bytes / _MEGABYTE:,.0f} MB, {told}")
    _share_arenas()


def _share_arenas() -> None:
    """Keeps glibc from holding freed memory back for each thread by itself: 80 MB of what else is a peak of 290 (reading,
    decompressing and training are threads of their own). Other C libraries do not, and have no such setting."""
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    except (AttributeError, OSError, TypeError):
        return


def images_in_order(
    split: Split | StreamedSplit, at_most: int, budget: MemoryBudget | None, places: slice = slice(None)
) -> Iterator[UInt8[torch.Tensor, "_ channels height width"]]:
    """A split's images as they are, all or those of some consecutive rows, so many at a time; of one on disk fewer,
    where the budget says so."""
    if isinstance(split, Split):
        return iter(split.images[places].split(at_most))
    assert budget is not None, "what is streamed has a budget"
    return split.in_order(max(1, min(at_most, budget.share(split.image_shape) // math.prod(split.image_shape))), places)


def read_windows(windows: Sequence[Sequence[range]], read: Callable[[range], Columns]) -> Iterator[Columns]:
    """Each window's rows, page after page as `read` gives them; the next window is read in a thread meanwhile.

    A window is good until the next one is asked for: then its memory is written anew. What goes wrong in the thread is
    raised here, when its window's turn comes. The thread ends with this iterator, be it half-way.
    """
    size = max(sum(map(len, pages)) for pages in windows)
    buffers: tuple[dict[str, np.ndarray], ...] = ({}, {})
    given_up = Event()

    def load(number: int) -> Columns:
        buffer, place = buffers[number % 2], 0
        for page in windows[number]:
            if given_up.is_set():
                break
            for name, values in read(page).items():
                if name not in buffer:
                    buffer[name] = np.empty((size, *values.shape[1:]), values.dtype)
                buffer[name][place : place + len(page)] = values
            place += len(page)
        return {name: values[:place] for name, values in buffer.items()}

    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        try:
            coming = thread.submit(load, 0)
            for number in range(len(windows)):
                window = coming.result()
                if number + 1 < len(windows):
                    coming = thread.submit(load, number + 1)
                yield window
        finally:
            given_up.set()
