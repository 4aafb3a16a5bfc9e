"""The columns of rows: the code of a cell, and what a code stands for.

A code is a whole number. 0 is a cell that is missing. Of a column of numbers, 1 and on are its
bins, from the lowest one up; of a column of categories, 1 is a name that is rare or was never seen,
and 2 and on are names.
"""

import math
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, ClassVar, Literal

from pipeline.core.files import fingerprint
from pipeline.core.text import composed

ColumnType = Literal["number", "category"]

MISSING, RARE = 0, 1
FIRST_BIN, FIRST_NAME = 1, 2
_MOST_SIGNS = 60  # of a cell in a message
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
#: Texts that programs write for a missing value, in small letters.
_NO_VALUE = frozenset(["", "nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "nat", "none", "null"])


class CellError(ValueError):
    """An error that a cell can't be of its column: what it is."""


@dataclass(frozen=True)
class Column(ABC):
    """A column, as it codes its cells."""

    name: str

    type: ClassVar[ColumnType]

    @property
    @abstractmethod
    def num_codes(self) -> int:
        """The number of its codes; each is below it."""

    @abstractmethod
    def code(self, cell: object) -> int:
        """Returns the code of a cell as it was found; raises CellError where it can't be one."""

    @abstractmethod
    def text(self, code: int) -> str:
        """Returns what a code stands for, for people."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Returns the column as plain JSON."""


@dataclass(frozen=True)
class NumberColumn(Column):
    """A column of numbers in bins.

    Attributes:
        edges: The least number of each bin but the first, ascending.
        values: A number that stands for each bin: a median of the training rows in it.
    """

    edges: Sequence[float]
    values: Sequence[float]

    type: ClassVar[ColumnType] = "number"

    @property
    def num_codes(self) -> int:
        return FIRST_BIN + len(self.values)

    def code(self, cell: object) -> int:
        number = number_of(cell)
        return MISSING if number is None else FIRST_BIN + bisect_right(self.edges, number)

    def text(self, code: int) -> str:
        if code == MISSING:
            return "missing"
        place = code - FIRST_BIN
        if not self.edges:
            return f"about {self.values[0]:g}"
        if place == 0:
            return f"below {self.edges[0]:g}"
        low = f"{self.edges[place - 1]:g}"
        return f"{low} or more" if place == len(self.edges) else f"{low} to {self.edges[place]:g}"

    def to_dict(self) -> dict[str, Any]:
        bins = {"edges": list(self.edges), "values": list(self.values)}
        return {"name": self.name, "type": self.type, "num_codes": self.num_codes, **bins}


@dataclass(frozen=True)
class CategoryColumn(Column):
    """A column of names, in the order of their characters."""

    names: Sequence[str]

    type: ClassVar[ColumnType] = "category"

    @property
    def num_codes(self) -> int:
        return FIRST_NAME + len(self.names)

    def code(self, cell: object) -> int:
        name = name_of(cell)
        return MISSING if name is None else self._codes.get(name, RARE)

    def text(self, code: int) -> str:
        return {MISSING: "missing", RARE: "rare or unknown"}.get(code) or self.names[code - FIRST_NAME]

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "type": self.type, "num_codes": self.num_codes, "names": list(self.names)}

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {name: FIRST_NAME + place for place, name in enumerate(self.names)}


_TYPES: dict[str, type[Column]] = {column.type: column for column in (NumberColumn, CategoryColumn)}


@dataclass(frozen=True)
class Columns:
    """The columns of rows, in their order."""

    columns: Sequence[Column] = field(default_factory=tuple)

    def codes(self, cells: Sequence[object]) -> list[int]:
        """Returns the codes of the cells of a row; raises CellError with the column's name."""
        found = []
        for column, cell in zip(self.columns, cells, strict=True):
            try:
                found.append(column.code(cell))
            except CellError as error:
                raise CellError(f"column {column.name!r}: {error}") from None
        return found

    def facts(self) -> dict[str, Any]:
        """Returns what a data set's manifest states about its rows."""
        return {"kind": "row", "columns": [column.to_dict() for column in self.columns], "columns_digest": self.digest}

    @cached_property
    def digest(self) -> str:
        """The fingerprint of all that decides what a code means."""
        return fingerprint([column.to_dict() for column in self.columns])

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> "Columns":
        """Returns the columns that `facts` stated."""
        return cls([_column_of(dict(row)) for row in facts["columns"]])


def _column_of(row: dict[str, Any]) -> Column:
    row.pop("num_codes")
    return _TYPES[row.pop("type")](**row)


def number_of(cell: object) -> float | None:
    """Returns a cell as a number, None where it is missing; raises CellError where it is none, or
    is infinite.
    """
    if isinstance(cell, bool):
        return float(cell)
    if isinstance(cell, int | float | Decimal):
        try:
            number = float(cell)
        except OverflowError:
            raise CellError(f"{_shown(cell)} is too large for a number of 64 bits") from None
    elif is_missing(cell):
        return None
    elif isinstance(cell, str) and _NUMBER.fullmatch(cell.strip()):
        number = float(cell)
    elif isinstance(cell, str) and cell.strip().lower().lstrip("+-") in ("inf", "infinity"):
        number = math.inf
    else:
        raise CellError(f"{_shown(cell)} is no number")
    if math.isinf(number):
        raise CellError(f"{_shown(cell)} is infinite")
    return None if math.isnan(number) else number + 0.0  # without the sign of -0


def name_of(cell: object) -> str | None:
    """Returns a cell as the name of a category, None where it is missing; raises CellError for what
    is no single name.

    A whole number is one name however a file writes it: Parquet has 3.0 where cells are missing.
    """
    if is_missing(cell):
        return None
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, bytes):
        try:
            cell = cell.decode("utf-8")
        except UnicodeDecodeError:
            raise CellError(f"{_shown(cell)} is not UTF-8 text") from None
    if isinstance(cell, list | tuple | Mapping):
        raise CellError(f"{_shown(cell)} is a {type(cell).__name__}, not one name")
    return composed(str(cell)).strip()


def is_missing(cell: object) -> bool:
    """Returns whether a cell has no value."""
    if isinstance(cell, str):
        return cell.strip().lower() in _NO_VALUE
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _shown(cell: object) -> str:
    text = repr(cell)
    return text if len(text) <= _MOST_SIGNS else f"{text[: _MOST_SIGNS - 3]}..."
