"""A source that is a table: labels and splits in columns, counted in one pass."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError, suggest
from pipeline.data.input_kinds import INPUT_KINDS
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.sources.arrow import ParquetTable
from pipeline.preparation.sources.base import Source
from pipeline.preparation.sources.label_columns import Columns, LabelColumns, Readers, Separator
from pipeline.preparation.sources.labels import ClassList, files_of
from pipeline.preparation.sources.split_names import split_named
from pipeline.preparation.sources.survey import Survey
from pipeline.preparation.sources.table_rows import column_names, is_parquet, need_table, table_rows

SPLIT_COLUMNS = frozenset(["split", "set", "subset", "partition", "part", "fold", "usage"])
LABEL_COLUMN = "label"
_OTHER_SIGNS = ";,|\t"  # that may stand between cells instead
TableRow = tuple[str, tuple[object, ...], object, object]  # its place, then its content, label and split


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LabelledTable(Source):
    """A table with a row for each sample: CSV, TSV, JSON lines or Parquet.

    Without `split_column` all rows are for training; an empty label is none. With `separator`,
    `label_columns` or a column of lists, labels are sets."""

    path: str
    label_column: str = LABEL_COLUMN
    label_columns: Columns | None = None
    separator: Separator | None = None
    split_column: str | None = None
    classes: ClassList = None

    kind: ClassVar[str]

    @property
    @abstractmethod
    def content_columns(self) -> tuple[str, ...]:
        """The columns that a sample is made of."""

    @cached_property
    def signal(self) -> SignalKind:
        return self._labels.signal(self._parquet)

    def class_names(self, raw: Path) -> tuple[str, ...]:
        return self._survey.class_names(self._readers.names, self.path)

    def counts(self, raw: Path) -> Mapping[tuple[str, str | None], int] | None:
        return self._survey.counts

    def count(self, raw: Path) -> int | None:
        return self._survey.split_sizes.total()

    def split_sizes(self, raw: Path) -> Mapping[str, int] | None:
        return self._survey.split_sizes

    def files(self) -> Iterator[str]:
        yield self.path
        yield from files_of(self.classes)

    @property
    def _labels(self) -> LabelColumns:
        if self.label_columns and self.label_column != LABEL_COLUMN:
            raise SourceError("label_column", "given beside `label_columns`", expected="one of the two")
        return LabelColumns(self.label_column, self.label_columns, self.separator)

    @cached_property
    def _parquet(self) -> list[ParquetTable]:
        """The table, if it is one that may name its classes."""
        path = Path(self.path)
        if not is_parquet(path):
            return []
        need_table(path)
        return [ParquetTable(path)]

    @cached_property
    def _readers(self) -> Readers:
        """The reading of labels."""
        return self._labels.readers(self._parquet, self.classes, self.notes)

    @cached_property
    def _survey(self) -> Survey:
        """The labels of all rows, from one pass over the table."""
        thing = INPUT_KINDS[self.input_kind]
        survey, reader = Survey(self.notes, self.signal), self._readers.of_tables[0]
        for where, _, label, split in self._rows():
            survey.add(self._split(split, where), label, reader, where)
        if not survey.split_sizes:
            raise SourceError(
                self.path, "no rows", expected=f"{thing.things}, one a line, below a line of column names"
            )
        if self.split_column is None and (
            named := [name for name in column_names(Path(self.path)) if name.lower() in SPLIT_COLUMNS]
        ):
            remark = f"{thing.things} are all for training, though a column may name splits (set `split_column`)"
            self.notes.add(remark, named[0], survey.split_sizes.total())
        return survey

    def _check_columns(self, columns: Sequence[str]) -> None:
        """Raises SourceError, with the setting to correct, where the table lacks a column."""
        there = column_names(Path(self.path))
        if not there:
            raise SourceError(self.path, "empty", expected="a line of column names, and one for each sample")
        if lacking := [column for column in columns if column not in there]:
            settings = {each.name: getattr(self, each.name) for each in fields(self) if "_column" in each.name}
            named = [
                name
                for name, value in settings.items()
                if lacking[0] in ([value] if isinstance(value, str) else value or ())
            ]
            if len(there) == 1 and any(sign in there[0] for sign in _OTHER_SIGNS):
                raise SourceError(
                    self.path, f"one column, {there[0]!r}", expected="cells between commas (.csv) or tabs (.tsv)"
                )
            fix = f"set `{named[0]}`" if named else ""
            raise SourceError(self.path, f"no column {lacking[0]!r}", expected=suggest(lacking[0], there), fix=fix)
        if twice := [column for column in columns if there.count(column) > 1]:
            raise SourceError(self.path, f"two columns {twice[0]!r}", expected="different names", fix="rename one")

    def _split(self, name: object, where: str) -> str:
        return "train" if self.split_column is None else split_named(str(name).strip(), where)

    def _rows(self) -> Iterator[TableRow]:
        labels, own = self._labels, self.content_columns
        columns = [*own, *labels.names, *([self.split_column] if self.split_column else [])]
        self._check_columns(columns)
        for where, cells in table_rows(Path(self.path), columns):
            content, rest = cells[: len(own)], list(cells[len(own) :])
            split = rest.pop() if self.split_column else None
            yield where, content, labels.label(rest), split
