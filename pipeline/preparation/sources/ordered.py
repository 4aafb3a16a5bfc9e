"""Splits by the order of a column: the last rows by time are for test, as they are in use."""

from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.data.row_columns import CellError, is_missing, name_of, number_of
from pipeline.preparation.sources.table_rows import table_rows

_Share = Annotated[float, Field(ge=0, lt=1)]
Value = float | str


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SplitBy:
    """The setting `split_by`: the last rows by a column are for test, those before for validation.

    Attributes:
        column: Of numbers, or of texts whose order is that of their characters (2026-11-27).
        val: The share of all rows; `test` likewise. Rows of one value stay together.
    """

    column: str
    val: _Share
    test: _Share


@plain_dataclass(frozen=True)
class Cuts:
    """The values from which on rows are for validation and for test."""

    column: str
    val: Value
    test: Value | None

    def split(self, cell: object, where: str) -> str:
        """Returns the split of a row by its cell of the column."""
        value = _value(cell, self.column, where, isinstance(self.val, str))
        if self.test is not None and value >= self.test:  # type: ignore[operator]
            return "test"
        return "val" if value >= self.val else "train"  # type: ignore[operator]


def split_cuts(path: Path, by: SplitBy) -> Cuts:
    """Returns where a table is cut.

    Raises SourceError where a cell is missing or of another type than the others, or where nothing
    is left to train on.
    """
    cells = [(where, cell) for where, (cell,) in table_rows(path, [by.column])]
    strange = [(where, cell) for where, cell in cells if not _is_number(cell)]
    is_text = len(strange) == len(cells)
    if strange and not is_text:
        found = f"{len(strange):,} of {len(cells):,} cells of {by.column!r} are no numbers, the first {strange[0][1]!r}"
        raise SourceError(strange[0][0], found, expected="numbers alone, or texts alone", fix="correct them")
    values = sorted(_value(cell, by.column, where, is_text) for where, cell in cells)
    where, count = f"{path}: split_by", len(values)
    num_test, num_val = round(by.test * count), round(by.val * count)
    if not count or num_test + num_val >= count or num_test + num_val == 0:
        found = f"val {by.val} and test {by.test} of {count:,} rows"
        raise SourceError(where, found, expected="shares that leave rows for training, and give some")
    test = values[count - num_test] if num_test else None
    val = values[count - num_test - num_val]
    if val == values[0]:
        found = f"the first {by.val + by.test:.0%} of rows from the end all have {by.column} {val!r}"
        raise SourceError(where, found, expected="a column whose values come in many places")
    return Cuts(by.column, val, test)


def _is_number(cell: object) -> bool:
    try:
        return number_of(cell) is not None
    except CellError:
        return False


def _value(cell: object, column: str, where: str, is_text: bool) -> Value:
    if is_missing(cell):
        raise SourceError(where, f"column {column!r}, which `split_by` cuts by, is empty", expected="a value")
    value = name_of(cell) if is_text else number_of(cell)
    assert value is not None, "it is not missing"
    return value
