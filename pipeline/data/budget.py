"""The memory budget: how many bytes of inputs and stored labels are held at a time."""

from dataclasses import dataclass

from pipeline.core.errors import ConfigError
from pipeline.data.manifest import DatasetManifest
from pipeline.data.paging import Paging

PAGE_BYTES = 1 << 20
PAGE_ROWS = 64
_PAGES = 16  # at least in a window, where inner chunks on disk are small enough: they are what is shuffled
_BATCHES = 5  # of inputs: gathered, padded, rendered, and those of the step before
_BESIDE_BYTES = 256  # for each row of a window: its place in the order and what is drawn for its view
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class MemoryBudget:
    """A number of bytes for inputs and stored labels, and the setting that it comes from.

    A few batches of inputs are set aside first. Of the rest, a quarter each goes to the window that
    trains, the window that is being read, stored labels, and pages on their way from the disk with
    encoded files that are kept. A dump, which has blocks instead of windows, holds the inputs of
    two blocks. Ids, hard labels and logits come on top: some 40 bytes a sample.

    Args:
        where: The setting, for messages.
    """

    num_bytes: int
    batch_size: int
    where: str

    @classmethod
    def of_megabytes(cls, megabytes: int, batch_size: int, where: str) -> "MemoryBudget":
        """Returns a budget of so many million bytes."""
        return cls(megabytes * _MEGABYTE, batch_size, where)

    def __str__(self) -> str:
        return f"{in_megabytes(self.num_bytes):,g} MB"

    def holds(self, data: DatasetManifest, *names: str) -> bool:
        """Returns whether some splits stay in memory: they take at most three quarters of it."""
        return data.input_bytes(*names) <= self.num_bytes * 3 // 4

    def check_blocks(self, data: DatasetManifest, block_rows: int) -> None:
        """Raises ConfigError where the inputs of two blocks of the training split do not fit."""
        rows = min(block_rows, data.num_samples["train"])
        needed = 2 * rows * data.bytes_each + self._aside(data.bytes_each)
        if needed > self.num_bytes:
            if (whole := data.input_bytes("train") * 4 // 3) < needed:
                raise ConfigError(self.where, str(self), expected=f"at least {_megabytes(whole)} for all inputs")
            blocks = f"two blocks of {block_rows:,} inputs and batches of {self.batch_size:,}"
            fix = "raise it, or lower block_samples or batch_size"
            raise ConfigError(self.where, str(self), expected=f"at least {_megabytes(needed)} for {blocks}", fix=fix)

    def check_whole(self, input_bytes: int, label_bytes: int) -> None:
        """Raises ConfigError where inputs fit in memory, but not with one view's labels."""
        if input_bytes + label_bytes > self.num_bytes:
            least = f"at least {_megabytes(input_bytes + label_bytes)}"
            raise ConfigError(self.where, str(self), expected=f"{least} for the inputs and one view's labels")

    def check_window(self, input_bytes: int, rows: int) -> None:
        """Raises ConfigError where not even so many rows fit in a window."""
        needed = rows * _row_bytes(input_bytes)
        if self.share(input_bytes) < needed:
            least = f"at least {self.least(input_bytes, needed)} for batches of {self.batch_size}"
            raise ConfigError(self.where, str(self), expected=f"{least} and windows of {rows} inputs")

    def share(self, input_bytes: int) -> int:
        """Returns the bytes of one quarter: what a window may take."""
        return (self.num_bytes - self._aside(input_bytes)) // 4

    def paging(self, input_bytes: int, num_rows: int, chunk_rows: int, block_rows: int | None) -> Paging:
        """Returns the pages and windows of a split on disk, from its sizes and this budget alone.

        Args:
            chunk_rows: Rows of an inner chunk on disk, which is read as a whole.
            block_rows: Pages are of just so many rows; None: they are chosen here.

        Raises:
            ConfigError: Not even one page fits in a window.
        """
        row_bytes, share = _row_bytes(input_bytes), self.share(input_bytes)
        # 1. A page is a chunk at least, and a window must hold one page.
        rows = min(block_rows or chunk_rows, num_rows)
        self.check_window(input_bytes, rows)
        # 2. Small chunks are put together to pages of about 1 MB, which a disk reads at full speed,
        #    and of 64 rows, because chunks of encoded files and of labels hold more rows than those
        #    of pixels. A window holds 16 pages: with fewer, an epoch would be shuffled badly.
        if block_rows is None:
            rows *= max(1, min(max(PAGE_BYTES, PAGE_ROWS * row_bytes), share // _PAGES) // (rows * row_bytes))
        # 3. A window takes as many pages as its quarter holds.
        return Paging(num_rows, rows, share // (rows * row_bytes))

    def rows_at_once(self, input_bytes: int, at_most: int) -> int:
        """Returns how many inputs are read at once, one after the other: at least one."""
        return max(1, min(at_most, self.share(input_bytes) // input_bytes))

    def least(self, input_bytes: int, share: int) -> int:
        """Returns the smallest budget, in whole MB, whose quarter is `share` bytes."""
        return _megabytes(4 * share + self._aside(input_bytes))

    def _aside(self, input_bytes: int) -> int:
        return _BATCHES * self.batch_size * input_bytes


def in_megabytes(num_bytes: int) -> float:
    """Returns a size in MB."""
    return num_bytes / _MEGABYTE


def _megabytes(num_bytes: int) -> int:
    """Returns a size in whole MB, rounded up."""
    return -(-num_bytes // _MEGABYTE)


def _row_bytes(input_bytes: int) -> int:
    return input_bytes + _BESIDE_BYTES
