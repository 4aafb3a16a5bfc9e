"""Rows of a second table, found by the value of a column: the facts about a user or an item."""

from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from pipeline.core.errors import SourceError
from pipeline.data.row_columns import name_of
from pipeline.preparation.sources.table_rows import column_names, table_rows


class LookedUp:
    """A table with one row for each value of its column `key`.

    Args:
        wanted: The columns that are asked for, of which it gives those that it has; None: all.
        leave_out: Columns that it does not give.
    """

    def __init__(self, path: Path, key: str, wanted: Collection[str] | None, leave_out: Collection[str]) -> None:
        self.path, self._key, self._wanted, self._leave_out = path, key, wanted, leave_out

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that it adds to a row."""
        there = (name for name in column_names(self.path) if name not in {self._key, *self._leave_out})
        return tuple(name for name in there if self._wanted is None or name in self._wanted)

    def cells(self, value: object) -> tuple[object, ...]:
        """Returns the cells of a value's row; all are missing where there is none for it."""
        return self._rows.get(name_of(value), (None,) * len(self.columns))

    @cached_property
    def _rows(self) -> dict[str | None, tuple[object, ...]]:
        rows: dict[str | None, tuple[object, ...]] = {}
        for where, (value, *cells) in table_rows(self.path, [self._key, *self.columns]):
            name = name_of(value)
            if name is None:
                raise SourceError(where, f"column {self._key!r} is empty", expected="a value that rows are found by")
            if name in rows:
                raise SourceError(where, f"{self._key} {name!r} a second time", expected="one row for each")
            rows[name] = tuple(cells)
        return rows
