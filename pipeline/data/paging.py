"""The order of an epoch: pages, windows of pages, and the rows within a window.

An epoch takes *pages* of consecutive rows, which are what a disk reads well, in a random order. As
many pages as fit in memory are a *window*, whose rows are shuffled. Data that is in memory as a
whole is one page and one window. All of it is a pure function of the sizes, the seed and the epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from pipeline.core.seeding import derive_seed, permutation, shuffle


@dataclass(frozen=True)
class Paging:
    """The sizes of pages and windows: `page_rows` rows a page, `window_pages` pages a window."""

    num_rows: int
    page_rows: int
    window_pages: int

    @classmethod
    def whole(cls, num_rows: int) -> "Paging":
        """Returns a paging with one window that holds all rows."""
        return cls(num_rows, max(1, num_rows), 1)

    @property
    def window_rows(self) -> int:
        """The number of rows in the largest window."""
        return min(self.num_rows, self.page_rows * self.window_pages)

    def pages(self) -> list[range]:
        """Returns every page, in the order of the rows."""
        return [
            range(start, min(start + self.page_rows, self.num_rows))
            for start in range(0, self.num_rows, self.page_rows)
        ]

    def windows(self, epoch: int, seed: int) -> list[list[range]]:
        """Returns the pages of each window of an epoch, ascending within the window."""
        pages = self.pages()
        # 1. Each epoch draws another order of the pages, so that other rows meet in a window.
        order = permutation(derive_seed(seed, "pages"), len(pages), epoch)
        # 2. Windows of even size: a small last one would be shuffled among few rows.
        parts = np.array_split(order, -(-len(pages) // self.window_pages))
        # 3. Ascending, because a disk reads neighbours faster; rows are shuffled in memory anyway.
        return [[pages[number] for number in np.sort(part)] for part in parts]


def window_rows(pages: Sequence[range]) -> Int64[np.ndarray, " rows"]:
    """Returns the rows of some pages, page after page."""
    return np.concatenate([np.arange(page.start, page.stop) for page in pages])


def window_order(rows: Int64[np.ndarray, " rows"], epoch: int, seed: int) -> Int64[np.ndarray, " rows"]:
    """Returns the order in which a window's rows are taken, as places in the window."""
    return shuffle(derive_seed(seed, "order"), rows, epoch)
