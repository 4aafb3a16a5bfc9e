"""Tables as tab-separated files, which spreadsheets, `dvc plots` and line-wise programs read.

A cell never holds a tab or the end of a line: these, other control signs and backslashes are
written as in `escaped`. Quotes are doubled within quotes, as the csv module does it. A text that a
spreadsheet would take for a formula has a `'` before it.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.core.text import escaped, unescaped

_FORMULA = re.compile(r"'*[=+\-@]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


def lines_of(rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yields rows as lines of a table."""
    line = io.StringIO()
    writer = csv.writer(line, delimiter="\t", lineterminator="\n")
    for row in rows:
        writer.writerow([_cell(text) for text in row])
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def read_lines(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yields the rows that `lines_of` wrote."""
    for cells in csv.reader(lines, delimiter="\t"):
        yield [_text(cell) for cell in cells]


def read_table(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a table by the names in its first line."""
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = read_lines(file)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _cell(text: str) -> str:
    if text.isalnum():  # most are, and the rest takes three times as long
        return text
    is_formula = _FORMULA.match(text) and not _NUMBER.fullmatch(text)
    return escaped(f"'{text}" if is_formula else text)


def _text(cell: str) -> str:
    text = unescaped(cell)
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
