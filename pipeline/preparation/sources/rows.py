"""The rows of a table, each of which is a sample: CSV, TSV, Parquet or JSON lines."""

from collections.abc import Iterator, Mapping
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
from pipeline.preparation.sources.arrow import ParquetTable
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.label_columns import Columns as LabelNames
from pipeline.preparation.sources.label_columns import LabelColumns, Readers, Separator
from pipeline.preparation.sources.label_sets import LabelSets
from pipeline.preparation.sources.labels import ClassList, files_of, is_whole, read_classes
from pipeline.preparation.sources.looked_up import LookedUp
from pipeline.preparation.sources.ordered import Cuts, SplitBy, split_cuts
from pipeline.preparation.sources.split_names import split_named
from pipeline.preparation.sources.survey import Survey
from pipeline.preparation.sources.table_rows import column_names, is_parquet, need_table, table_rows

_LABEL_COLUMN = "label"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Positive:
    """A yes or no made of a column of numbers.

    Attributes:
        class_name: The name of the yes.
        at_least: The least number that is one.
    """

    class_name: Annotated[str, Field(min_length=1)]
    at_least: float


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rows(Source):
    """The rows of a table, in its order.

    Without `split_column` or `split_by` all are for training; an empty label is none. With
    `separator`, `label_columns` or a column of lists, labels are sets; with `positive` a number in
    the label's column is one class, yes or no.

    Attributes:
        columns: Those that a row is made of, each with its type (null: as it is found); None: all
            but those of labels and splits, and `leave_out`.
        lookup: For columns of the table the tables in which their values are looked up, which add
            their own columns to each row.
    """

    path: str
    columns: dict[str, ColumnType | None] | None = None
    leave_out: tuple[str, ...] = ()
    lookup: dict[str, str] = field(default_factory=dict)
    label_column: str = _LABEL_COLUMN
    label_columns: LabelNames | None = None
    separator: Separator | None = None
    positive: Positive | None = None
    split_column: str | None = None
    split_by: SplitBy | None = None
    classes: ClassList = None

    kind: ClassVar[str] = "rows"
    input_kind: ClassVar[InputKindName] = "row"

    @cached_property
    def signal(self) -> SignalKind:
        return "binary" if self.positive else self._labels.signal(self._parquet)

    def class_names(self, raw: Path) -> tuple[str, ...]:
        found = self._survey.class_names(self._readers.names, self.path)
        _check_alike(found, self.classes is None and not self._names_its_classes, self.path)
        return found

    def counts(self, raw: Path) -> Mapping[tuple[str, str | None], int]:
        return self._survey.counts

    def count(self, raw: Path) -> int:
        return self._survey.split_sizes.total()

    def split_sizes(self, raw: Path) -> Mapping[str, int]:
        return self._survey.split_sizes

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        reader, own = self._readers.of_tables[0], list(self._own_columns)
        read = [*own, *self.lookup, *self._labels.names, *self._split_columns]
        for number, (where, cells) in enumerate(table_rows(Path(self.path), read)):
            if number < start:
                continue
            label, split = self._label_and_split(cells[len(own) + len(self.lookup) :], where)
            looked = [
                cell
                for table, key in zip(self._tables, cells[len(own) : len(own) + len(self.lookup)], strict=True)
                for cell in table.cells(key, where)
            ]
            yield RawImage(split, reader.name(label, where), where, (*cells[: len(own)], *looked))

    def files(self) -> Iterator[str]:
        yield self.path
        yield from self.lookup.values()
        yield from files_of(self.classes)

    @cached_property
    def cell_columns(self) -> dict[str, ColumnType | None]:
        """The columns of a row in their order, each with its type where the settings name it."""
        given = self.columns or {}
        names = [*self._own_columns, *(name for table in self._tables for name in table.columns)]
        if twice := [name for name in names if names.count(name) > 1]:
            found = f"column {twice[0]!r} is in two of the tables"
            raise SourceError(self.path, found, expected="different names", fix="put it into `leave_out`")
        return {name: given.get(name) for name in names}

    @cached_property
    def _own_columns(self) -> tuple[str, ...]:
        """The columns of the table itself that a row is made of."""
        there, used = column_names(Path(self.path)), (*self._labels.names, *self._split_columns)
        if unknown := [name for name in self.leave_out if name not in {*there, *self._looked_up_names}]:
            raise SourceError(
                f"{self.path}: leave_out", f"no column {unknown[0]!r}", expected=suggest(unknown[0], there)
            )
        if self.columns is None:
            found = tuple(name for name in there if name not in {*used, *self.leave_out})
        else:
            known = {*there, *self._looked_up_names}
            if unknown := [name for name in self.columns if name not in known]:
                expected = suggest(unknown[0], [*there, *self._looked_up_names])
                raise SourceError(self.path, f"no column {unknown[0]!r}", expected=expected)
            if labels := [name for name in self.columns if name in self._labels.names]:
                found_there = f"column {labels[0]!r} has the labels, and is among `columns`"
                raise SourceError(self.path, found_there, expected="one of the two")
            found = tuple(name for name in there if name in self.columns and name not in self.leave_out)
        if not found and not self.lookup:
            raise SourceError(self.path, f"no columns but {listed(used)}", expected="some for each row to be made of")
        return found

    @cached_property
    def _looked_up_names(self) -> list[str]:
        return [name for key, path in self.lookup.items() for name in column_names(Path(path)) if name != key]

    @cached_property
    def _tables(self) -> list[LookedUp]:
        wanted = None if self.columns is None else set(self.columns)
        return [LookedUp(Path(path), key, wanted, self.leave_out) for key, path in self.lookup.items()]

    @property
    def _labels(self) -> LabelColumns:
        if self.label_columns and self.label_column != _LABEL_COLUMN:
            raise SourceError("label_column", "given beside `label_columns`", expected="one of the two")
        if self.positive and (self.label_columns or self.separator or self.classes is not None):
            raise SourceError("positive", "given beside other classes", expected="it alone: it names the only class")
        return LabelColumns(self.label_column, self.label_columns, self.separator)

    @cached_property
    def _parquet(self) -> list[ParquetTable]:
        """The table, if it is one that may name its classes."""
        path = Path(self.path)
        if not is_parquet(path):
            return []
        need_table(path)
        return [ParquetTable(path)]

    @property
    def _names_its_classes(self) -> bool:
        return any(table.class_names(self._labels.one) for table in self._parquet)

    @cached_property
    def _readers(self) -> Readers:
        if self.positive:
            only = read_classes((self.positive.class_name,), least=1)
            return Readers([LabelSets(only)], only.names)
        return self._labels.readers(self._parquet, self.classes, self.notes)

    @property
    def _split_columns(self) -> tuple[str, ...]:
        if self.split_by and self.split_column:
            raise SourceError("split_by", "given beside `split_column`", expected="one of the two")
        return tuple(name for name in (self.split_column, self.split_by and self.split_by.column) if name)

    @cached_property
    def _survey(self) -> Survey:
        """The labels of all rows, from one pass over the table."""
        survey, reader = Survey(self.notes, self.signal), self._readers.of_tables[0]
        for where, cells in table_rows(Path(self.path), [*self._labels.names, *self._split_columns]):
            label, split = self._label_and_split(cells, where)
            survey.add(split, label, reader, where)
        if not survey.split_sizes:
            raise SourceError(self.path, "no rows", expected="a row for each sample, below a row of column names")
        return survey

    def _label_and_split(self, cells: tuple[object, ...], where: str) -> tuple[object, str]:
        """Returns the label and the split of a row, from the cells of their columns."""
        label = self._labels.label(cells[: len(self._labels.names)])
        if self.positive:
            label = _yes_or_no(label, self.positive, where)
        if self.split_column:
            return label, split_named(str(cells[-1]).strip(), where)
        return label, self._cuts.split(cells[-1], where) if self.split_by else "train"

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


def _check_alike(names: tuple[str, ...], are_found: bool, where: object) -> None:
    """Raises SourceError where labels are numbers in some rows and words in others."""
    numbers, words = ([name for name in names if is_whole(name) is whole] for whole in (True, False))
    if are_found and numbers and words:
        found = f"labels are numbers in some rows ({numbers[0]!r}) and words in others ({words[0]!r})"
        raise SourceError(where, found, expected="one of the two", fix="correct them, or name all in `classes`")
