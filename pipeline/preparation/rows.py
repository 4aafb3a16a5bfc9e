"""Rows of a table made ready: a code for each cell, from bins and names that the training rows
decide.

1. Numbers become bins of about equal counts. A bin ends at a value that is there, so that codes do
   not depend on the order of rows or on rounding.
2. A category keeps the names that enough training rows have; all others share one code.
3. A missing cell has a code of its own in every column.

The rows that the source gives for training decide; those that are held out of them later for
validation or test are among them.
"""

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass as settings

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.data.content import Content
from pipeline.data.images import Storage
from pipeline.data.input_kinds import ROW, InputKind
from pipeline.data.row_columns import (
    CategoryColumn,
    CellError,
    Column,
    Columns,
    ColumnType,
    NumberColumn,
    is_missing,
    name_of,
    number_of,
)
from pipeline.preparation.form import Form, Look
from pipeline.preparation.made import Broken, Made
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.rows import Rows

if TYPE_CHECKING:
    from pipeline.preparation.settings import Prepare

_MOSTLY = 0.95  # a column with so many numbers among its cells is one of numbers with faults
_MANY_NAMES = 1000  # which are told of


@settings(frozen=True, kw_only=True, config=STRICT)
class TableSettings:
    """The key `table` of `prepare`: how the cells of rows become codes.

    Attributes:
        bins: The most that a column of numbers has.
        rare_below: A name that fewer training rows have shares its code with others like it.
        most_names: The most names that a category keeps, the most frequent ones.
    """

    bins: Annotated[int, Field(ge=2, le=4096)] = 64
    rare_below: Annotated[int, Field(ge=1, le=1_000_000)] = 3
    most_names: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000


@dataclass(frozen=True)
class RowForm(Form):
    """The form of rows: columns, and a line about each."""

    columns: Columns
    about: Sequence[str] = ()
    storage: Storage = "pixels"

    kind: ClassVar[InputKind] = ROW

    def make(self, raw: RawImage) -> Made | Broken:
        assert isinstance(raw.content, tuple), "it is a row"
        assert not hasattr(raw.label, "content"), "a row has no mask"
        try:
            codes = np.array(self.columns.codes(raw.content), ROW.dtype)
        except CellError as error:
            return Broken(raw.key, str(error))
        sample_id = int(self._content.ids(codes[None])[0])
        stored = codes.astype("<i4").tobytes()
        return Made(raw.split, raw.label, raw.key, codes.shape, sample_id, stored, zlib.crc32(stored), None)

    def facts(self, folder: Path, train: Iterator[np.ndarray]) -> dict[str, Any]:
        return self.columns.facts()

    @property
    def _content(self) -> Content:
        return Content(ROW, self.columns.digest)


@dataclass
class RowLook(Look):
    """A look at rows. All training rows are read for the form, so that it needs none before."""

    num_rows: int = 0

    def add(self, raw: RawImage) -> None:
        self.num_rows += 1

    def decided(self, settings: "Prepare", source: Source, raw: Path) -> RowForm:
        """Returns the form; raises SourceError where a column can't be one."""
        assert isinstance(source, Rows), "no other source has rows"
        chosen = settings.table or TableSettings()
        surveys = [ColumnSurvey(name, given) for name, given in source.cell_columns.items()]
        for row in source.images(raw):
            if row.split == "train":
                assert isinstance(row.content, tuple), "it is a row"
                for survey, cell in zip(surveys, row.content, strict=True):
                    survey.add(cell, row.key)
        columns = [survey.column(chosen) for survey in surveys]
        about = [survey.line(column, chosen) for survey, column in zip(surveys, columns, strict=True)]
        return RowForm(Columns(columns), about)

    def lines(self, form: RowForm) -> list[str]:
        return list(form.about)


@dataclass
class ColumnSurvey:
    """The cells of a column in all training rows, counted by their values.

    Attributes:
        given: The type that the settings name; None: it is found.
    """

    name: str
    given: ColumnType | None = None
    values: Counter[tuple[type, object]] = field(default_factory=Counter)
    places: dict[tuple[type, object], str] = field(default_factory=dict)

    def add(self, cell: object, place: str) -> None:
        """Counts a cell, in the training row at a place."""
        key = (type(None), None) if is_missing(cell) else (type(cell), cell if _is_single(cell) else repr(cell))
        self.values[key] += 1
        self.places.setdefault(key, place)

    def column(self, chosen: TableSettings) -> Column:
        """Returns the column that codes its cells.

        Raises SourceError where the type is in doubt, or no cell has a value.
        """
        return self._numbers(chosen.bins) if self.type == "number" else self._categories(chosen)

    @property
    def type(self) -> ColumnType:
        """The type that is given, or else found: numbers where every value is one."""
        if self.given is not None:
            return self.given
        strange = [key for key in self.values if not _may_be_number(*key)]
        others = sum(self.values[key] for key in strange)
        numbers = sum(self.values.values()) - others - self.values[type(None), None]
        if not numbers and not others:
            raise SourceError(f"column {self.name!r}", "every training row lacks it", fix="leave it out of `columns`")
        if strange and numbers > _MOSTLY * (numbers + others):
            found = f"{others:,} of {numbers + others:,} cells are no numbers, the first {strange[0][1]!r}"
            fix = f"correct them, or say prepare.source.columns: {{{self.name}: category}}"
            raise SourceError(f"{self.places[strange[0]]}: column {self.name!r}", found, expected="numbers", fix=fix)
        return "category" if others else "number"

    def line(self, column: Column, chosen: TableSettings) -> str:
        """Returns a line about the column, as it was understood."""
        how = "as set" if self.given else "as found"
        total = sum(self.values.values())
        missing = sum(count for (_, value), count in self.values.items() if self._code(column, value) == 0)
        parts = [f"{column.type} ({how})"]
        if isinstance(column, NumberColumn):
            bins, low, high = len(column.values), column.values[0], column.values[-1]
            parts.append(f"{bins} bins about {low:g} to {high:g}" if bins > 1 else f"every number is {low:g}")
        elif isinstance(column, CategoryColumn):
            kept, all_names = len(column.names), len(self._names)
            parts.append(f"{kept:,} names" if kept == all_names else f"{kept:,} of {all_names:,} names, the rest rare")
            if all_names > _MANY_NAMES and kept < all_names / 2:
                parts.append(f"most are in fewer than {chosen.rare_below} rows, or beyond {chosen.most_names:,}")
        if missing:
            parts.append(f"{missing:,} of {total:,} missing")
        if column.num_codes - (column.type == "category") <= 2 and not missing:
            parts.append("the same in every row: of no use")
        return f"column {self.name!r}: {', '.join(parts)}"

    def _numbers(self, bins: int) -> NumberColumn:
        counts: Counter[float] = Counter()
        for (_, value), count in self.values.items():
            try:
                number = number_of(value)
            except CellError:
                continue  # it is broken: who makes the row says so
            if number is not None:
                counts[number] += count
        if not counts:
            raise SourceError(f"column {self.name!r}", "no training row has a number", fix="leave it out of `columns`")
        values, edges = bins_of(np.array(sorted(counts)), np.array([counts[each] for each in sorted(counts)]), bins)
        return NumberColumn(self.name, edges, values)

    def _categories(self, chosen: TableSettings) -> CategoryColumn:
        often = [(name, count) for name, count in self._names.items() if count >= chosen.rare_below]
        often.sort(key=lambda pair: (-pair[1], pair[0]))
        if not self._names:
            raise SourceError(f"column {self.name!r}", "every training row lacks it", fix="leave it out of `columns`")
        return CategoryColumn(self.name, sorted(name for name, _ in often[: chosen.most_names]))

    @property
    def _names(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for (_, value), count in self.values.items():
            try:
                name = name_of(value)
            except CellError:
                continue
            if name is not None:
                counts[name] += count
        return counts

    @staticmethod
    def _code(column: Column, value: object) -> int:
        try:
            return column.code(value)
        except CellError:
            return -1


def bins_of(values: np.ndarray, counts: np.ndarray, most: int) -> tuple[list[float], list[float]]:
    """Returns a value for each bin, and the least value of each bin but the first.

    Where there are no more values than bins, each has its own.

    Args:
        values: Different ones, ascending; `counts` are the rows of each.
    """
    if len(values) <= most:
        return values.tolist(), values[1:].tolist()
    # 1. A bin begins at the first value below which so many of the rows lie.
    before = np.cumsum(counts) - counts
    wanted = before[-1] + counts[-1]
    starts = np.unique(np.searchsorted(before, [wanted * number // most for number in range(1, most)], side="left"))
    starts = starts[(starts > 0) & (starts < len(values))]
    # 2. Its value is the lower median of its rows, which is a value that is there.
    medians = []
    for first, last in zip([0, *starts.tolist()], [*starts.tolist(), len(values)], strict=True):
        reached = np.cumsum(counts[first:last])
        medians.append(float(values[first + int(np.searchsorted(reached, (int(reached[-1]) + 1) // 2))]))
    return medians, values[starts].tolist()


def _is_single(cell: object) -> bool:
    return not isinstance(cell, list | tuple | Mapping | set)


def _may_be_number(kind: type, value: object) -> bool:
    """Returns whether a cell is a number or missing, and no yes or no."""
    try:
        number_of(value)
    except CellError as error:
        return "infinite" in str(error)
    return kind is not bool
