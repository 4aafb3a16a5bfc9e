"""Columns of the report's tables, and tables for a terminal, for Markdown and for the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

Line = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column: the key of its values in a line, and the form that writes one; None for a word.

    Attributes:
        about: May have `{thing}` and `{things}` in place of the name of a sample.
    """

    title: str
    key: str
    form: Callable[[Any], str] | None = None
    about: str = ""


@dataclass(frozen=True)
class Cell:
    """A value, by which a reader sorts, and its text; None and empty where it does not apply."""

    value: float | str | None
    text: str


@dataclass(frozen=True)
class Table:
    """A table: the columns that have a value in some line, and the lines."""

    columns: list[Column]
    lines: list[list[Cell]]

    @classmethod
    def of(cls, columns: Sequence[Column], lines: Sequence[Line]) -> "Table":
        """Returns the table of some lines; columns without a value are left out."""
        kept = [column for column in columns if any(line.get(column.key) is not None for line in lines)]
        return cls(kept, [[_cell(column, line.get(column.key)) for column in kept] for line in lines])

    def text(self, style: str) -> str:
        """Returns the table as text.

        Args:
            style: One of tabulate's: `simple` for a terminal, `github` for Markdown.
        """
        body = [[cell.text for cell in line] for line in self.lines]
        if style == "github":
            body = [[text.replace("|", "\\|") for text in line] for line in body]
        align = ["right" if column.form else "left" for column in self.columns]
        titles = [column.title.replace(" (", "\n(") if style == "simple" else column.title for column in self.columns]
        return str(tabulate(body, titles, tablefmt=style, disable_numparse=True, colalign=align if body else None))


def _cell(column: Column, value: Any) -> Cell:
    if value is None:
        return Cell(None, "")
    return Cell(value, column.form(value) if column.form else str(value))


def number(form: str) -> Callable[[Any], str]:
    """Returns the function that writes a number in a form."""
    return lambda value: format(value, form)


def share(value: float) -> str:
    """Returns a share, 0 to 1, for a reader."""
    return f"{value:.2%}"


def size(count: float) -> str:
    """Returns a number of bytes for a reader, in units of 1000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * factor:
            return f"{count / factor:#.3g}".rstrip(".") + f" {unit}"
    return f"{count:.0f} B"


def _millions(count: float) -> str:
    return f"{count / 1e6:.2f} M" if count >= 5000 else f"{count:,.0f}"


def three_digits(value: float) -> str:
    """Returns a number for a reader: three digits, or more where it is large."""
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


NETWORK = Column("network", "name")
ROLE = Column("role", "role")
ECE = Column("ECE", "ece", number(".4f"), "expected calibration error: how far confidence is from accuracy")
PARAMETERS = Column("parameters", "parameters", number(","))
MULTIPLY_ADDS = Column("mult-adds", "multiply_adds", _millions, "multiply-adds for one {thing}")
FILE = Column("file", "file_bytes", size, "size of the file on disk")
P50 = Column("ms", "p50", three_digits, "milliseconds for one {thing} on one thread, median")
P95 = Column("p95 ms", "p95", three_digits, "milliseconds for one {thing} on one thread, 95th percentile")
ALL_P50 = Column("ms, all threads", "all_p50", three_digits, "milliseconds for one {thing} on all threads, median")
MEMORY = Column("memory", "memory_bytes", size, "peak memory above what importing the library takes")
SECONDS = Column("train s", "train_seconds", number(",.0f"), "seconds of training")
NLL = Column("NLL", "nll", number(".4f"))
KL = Column("KL to teacher", "kl_to_teacher", number(".4f"))
EXPORTED = Column("file", "file")
SIZE = Column("size", "file_bytes", size)
LARGEST = Column("largest difference", "largest_difference", number(".1e"), "of a logit, to torch")
KL_TO_TORCH = Column("KL to torch", "kl_to_torch", number(".1e"))
