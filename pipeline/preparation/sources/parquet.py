"""Parquet files with image files in a column, as Hugging Face's data sets are published."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError, suggest
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.sources.arrow import ParquetTable
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.files import find_files
from pipeline.preparation.sources.label_columns import Columns, LabelColumns, Readers, Separator
from pipeline.preparation.sources.labels import ClassList, files_of
from pipeline.preparation.sources.survey import Survey

_AT_ONCE = 64  # rows with images


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Parquet(Source):
    """The rows of a file, a folder or a pattern of files (`train-*.parquet`, `validation-*`,
    `test-*`).

    An image is bytes, or a struct of `bytes` and `path`. Columns that are null are found by Hugging
    Face's metadata or by their type. Labels are text, or numbers whose names are in that metadata,
    file by file, or in `classes`; they are sets in a column of lists, and with `separator` or
    `label_columns`."""

    path: str
    image_column: str | None = None
    label_column: str | None = None
    label_columns: Columns | None = None
    separator: Separator | None = None
    classes: ClassList = None

    kind: ClassVar[str] = "parquet"

    @cached_property
    def signal(self) -> SignalKind:
        return self._labels.signal(self._files)

    def class_names(self, raw: Path) -> tuple[str, ...]:
        return self._survey.class_names(self._readers.names, self.path)

    def counts(self, raw: Path) -> Mapping[tuple[str, str | None], int]:
        return self._survey.counts

    def count(self, raw: Path) -> int:
        return sum(table.num_rows for _, _, table in self._tables)

    def split_sizes(self, raw: Path) -> Mapping[str, int]:
        return self._survey.split_sizes

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        image_column, labels = self._columns
        for (split, key, table), reader in zip(self._tables, self._readers.of_tables, strict=True):
            rows = table.rows([image_column, *labels.names], start, _AT_ONCE)
            for row, (image, *cells) in enumerate(rows, start):
                where = f"{key}:{row}"
                yield RawImage(split, reader.name(labels.label(cells), where), where, _content(image, where))
            start = max(start - table.num_rows, 0)

    def files(self) -> Iterator[str]:
        yield from files_of(self.classes)
        yield from (str(table.path) for _, _, table in self._tables)

    @cached_property
    def _tables(self) -> list[tuple[str, str, ParquetTable]]:
        """The split, key and table of every file."""
        root, files = find_files(self.path, [".parquet"], self.notes)
        return [(split, file.relative_to(root).as_posix(), ParquetTable(file)) for split, file in files]

    @property
    def _files(self) -> list[ParquetTable]:
        return [table for _, _, table in self._tables]

    @cached_property
    def _columns(self) -> tuple[str, LabelColumns]:
        """The columns of images and labels, which every file must have."""
        first, one = self._files[0], ""
        image = _column(first, self.image_column, first.image_columns(), "image_column")
        if not self.label_columns:
            one = _column(first, self.label_column, first.label_columns(), "label_column")
        elif self.label_column:
            raise SourceError("label_column", "given beside `label_columns`", expected="one of the two")
        labels = LabelColumns(one, self.label_columns, self.separator)
        for table in self._files:
            for column in (image, *labels.names):
                _column(table, column, [], "")
        return image, labels

    @property
    def _labels(self) -> LabelColumns:
        return self._columns[1]

    @cached_property
    def _readers(self) -> Readers:
        return self._labels.readers(self._files, self.classes, self.notes)

    @cached_property
    def _survey(self) -> Survey:
        """The labels of all rows, from a pass of their own."""
        survey, labels = Survey(self.notes, self.signal), self._labels
        for (split, key, table), reader in zip(self._tables, self._readers.of_tables, strict=True):
            for row, cells in enumerate(table.rows(list(labels.names))):
                survey.add(split, labels.label(cells), reader, f"{key}:{row}")
        return survey


def _column(table: ParquetTable, given: str | None, found: list[str], setting: str) -> str:
    if given is not None:
        if given not in table.columns:
            raise SourceError(table.path, f"no column {given!r}", expected=suggest(given, table.columns))
        return given
    if len(found) != 1:
        many = f"columns {', '.join(found)}" if found else "no column"
        fix = f"set `{setting}` to one of: {', '.join(table.columns)}"
        raise SourceError(table.path, f"{many} for `{setting}`", expected="one", fix=fix)
    return found[0]


def _content(image: object, where: str) -> bytes:
    if isinstance(image, dict):
        image = image.get("bytes")
    if image is None:
        return b""  # a broken image
    if not isinstance(image, bytes):
        raise SourceError(where, f"an image that is {type(image).__name__}", expected="bytes of an image file")
    return image
