"""The rows of a table, each of which is a sample: CSV, TSV, Parquet or JSON lines."""

from collections.abc import Iterator
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError, listed, suggest
from pipeline.data.input_kinds import InputKindName
from pipeline.data.row_columns import CellError, ColumnType, number_of
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.sources.base import RawImage
from pipeline.preparation.sources.label_columns import LabelColumns, Readers
from pipeline.preparation.sources.label_sets import LabelSets
from pipeline.preparation.sources.labelled_table import LabelledTable, TableRow
from pipeline.preparation.sources.labels import is_whole, read_classes
from pipeline.preparation.sources.looked_up import LookedUp
from pipeline.preparation.sources.ordered import Cuts, SplitBy, split_cuts
from pipeline.preparation.sources.table_rows import column_names, table_rows


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Positive:
    """A yes or no made of a column of numbers.

    Attributes:
        class_name: The name of the yes.
        at_least: The least number that is one.
    """

    class_name: Annotated[str, Field(min_length=1)]
    at_least: Annotated[float, Field(ge=-1e300, le=1e300)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rows(LabelledTable):
    """The rows of a table, in its order: CSV, TSV, JSON lines or Parquet.

    Labels and splits are in columns as in every table. `split_by` cuts splits by the order of a
    column; with `positive` a number in the label's column is one class, yes or no.

    Attributes:
        columns: Those that a row is made of, each with its type (null: as it is found); None: all
            but those of labels and splits, and `leave_out`.
        lookup: For columns of the table the tables in which their values are looked up, which add
            their own columns to each row.
        missing: Texts that stand for no value, beside those that programs write (NA, nan, null).
    """

    columns: dict[str, ColumnType | None] | None = None
    leave_out: tuple[str, ...] = ()
    lookup: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    positive: Positive | None = None
    split_by: SplitBy | None = None

    kind: ClassVar[str] = "rows"
    input_kind: ClassVar[InputKindName] = "row"

    @cached_property
    def signal(self) -> SignalKind:
        return "binary" if self.positive else self._labels.signal(self._parquet)

    def class_names(self, raw: Path) -> tuple[str, ...]:
        found = self._survey.class_names(self._readers.names, self.path)
        if self._readers.names is None:
            _check_alike(found, self.path)
        return found

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        reader, own, tables = self._readers.of_tables[0], len(self._own_columns), self._tables
        for number, (where, cells, label, split) in enumerate(self._rows()):
            if number < start:
                continue
            looked = [found for table, key in zip(tables, cells[own:], strict=True) for found in table.cells(key)]
            content = tuple(self._value(cell) for cell in (*cells[:own], *looked))
            yield RawImage(self._split(split, where), reader.name(label, where), where, content)

    def files(self) -> Iterator[str]:
        yield from super().files()
        yield from self.lookup.values()

    @cached_property
    def cell_columns(self) -> dict[str, ColumnType | None]:
        """The columns of a row in their order, each with its type where the settings name it.

        Raises SourceError where there is none, two have one name, or one that is named is not
        there.
        """
        tables, given = self._tables, self.columns or {}
        there = [*column_names(Path(self.path)), *(name for each in tables for name in column_names(each.path))]
        if unknown := [name for name in (*self.leave_out, *given) if name not in there]:
            raise SourceError(self.path, f"no column {unknown[0]!r}", expected=suggest(unknown[0], there))
        names = [*self._own_columns, *(name for table in tables for name in table.columns)]
        self._check_columns(self._own_columns)
        if twice := [name for name in names if names.count(name) > 1]:
            found = f"column {twice[0]!r} is in two tables"
            raise SourceError(self.path, found, expected="different names", fix="put it into `leave_out`")
        if barred := [name for name in given if name not in names]:
            found = f"{barred[0]!r} is among `columns`, and has labels or splits, or is left out"
            raise SourceError(self.path, found, expected="one of the two")
        if "" in names and "" not in given:
            found = "a column without a name: perhaps numbers of rows, which would be learned from"
            raise SourceError(self.path, found, fix='name it, or set `leave_out: [""]`')
        if not names:
            raise SourceError(self.path, f"no columns but {listed(self._used)}", expected="some to make rows of")
        return {name: given.get(name) for name in names}

    @property
    def content_columns(self) -> tuple[str, ...]:
        return (*self._own_columns, *self.lookup)

    @property
    def _used(self) -> tuple[str, ...]:
        """The columns that have labels or splits."""
        splits = (self.split_column, self.split_by.column if self.split_by else None)
        return (*self._labels.names, *filter(None, splits))

    @property
    def _free_columns(self) -> list[str]:
        """The columns of the table itself that a row may be made of: also that which splits are cut
        by, where it is asked for by name.
        """
        barred = {*self._used, *self.leave_out} - ({self.split_by.column} if self.split_by and self.columns else set())
        return [name for name in column_names(Path(self.path)) if name not in barred]

    @cached_property
    def _own_columns(self) -> tuple[str, ...]:
        return tuple(name for name in self._free_columns if self.columns is None or name in self.columns)

    @cached_property
    def _tables(self) -> list[LookedUp]:
        return [LookedUp(Path(path), key, self.columns, self.leave_out) for key, path in self.lookup.items()]

    @property
    def _labels(self) -> LabelColumns:
        if self.positive and (self.label_columns or self.separator or self.classes is not None):
            raise SourceError("positive", "given beside other classes", expected="it alone: it names the only class")
        return super()._labels

    @cached_property
    def _readers(self) -> Readers:
        if self.positive:
            only = read_classes((self.positive.class_name,), least=1)
            return Readers([LabelSets(only)], only.names)
        return self._labels.readers(self._parquet, self.classes, self.notes)

    def _value(self, cell: object) -> object:
        return None if isinstance(cell, str) and cell.strip() in self.missing else cell

    def _rows(self) -> Iterator[TableRow]:
        if self.split_by and self.split_column:
            raise SourceError("split_by", "given beside `split_column`", expected="one of the two")
        labels, own = self._labels.names, self.content_columns
        self._check_columns([*own, *self._used])
        for where, cells in table_rows(Path(self.path), [*own, *self._used]):
            label = self._labels.label(cells[len(own) : len(own) + len(labels)])
            if self.positive:
                label = _yes_or_no(label, self.positive, where)
            yield where, cells[: len(own)], label, cells[-1] if self.split_by or self.split_column else None

    def _split(self, name: object, where: str) -> str:
        return self._cuts.split(name, where) if self.split_by else super()._split(name, where)

    @cached_property
    def _cuts(self) -> Cuts:
        assert self.split_by is not None, "it is asked for where it is set"
        return split_cuts(Path(self.path), self.split_by)


def _yes_or_no(label: object, positive: Positive, where: str) -> object:
    try:
        number = number_of(label)
    except CellError as error:
        raise SourceError(where, f"label {error}", expected="a number, which `positive` makes a yes or a no") from None
    return None if number is None else {positive.class_name: int(number >= positive.at_least)}


def _check_alike(names: tuple[str, ...], where: object) -> None:
    """Raises SourceError where labels are numbers in some rows and words in others."""
    numbers, words = ([name for name in names if is_whole(name) is whole] for whole in (True, False))
    if numbers and words:
        found = f"labels are numbers in some rows ({numbers[0]!r}) and words in others ({words[0]!r})"
        raise SourceError(where, found, expected="one of the two", fix="correct them, or name all in `classes`")
