"""A table of image files: CSV, TSV or Parquet, a row per image with its path and its label."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.sources.accents import as_on_disk
from pipeline.preparation.sources.arrow import ParquetTable
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.label_columns import Columns, LabelColumns, Readers, Separator
from pipeline.preparation.sources.labels import ClassList, files_of
from pipeline.preparation.sources.mask import Ignore, Mask, MaskReader, Masks
from pipeline.preparation.sources.near_misses import near_miss
from pipeline.preparation.sources.split_names import split_named
from pipeline.preparation.sources.survey import Survey
from pipeline.preparation.sources.table_rows import column_names, is_parquet, need_table, table_rows

_SPLIT_COLUMNS = frozenset(["split", "set", "subset", "partition", "part", "fold", "usage"])
_LABEL_COLUMN = "label"
TableRow = tuple[str, object, object, object]  # its place, then its image, label and split


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Table(Source):
    """The images of a table, in its order. Without `split_column` all are for training; an empty
    label is none. With `separator`, `label_columns` or a column of lists, labels are sets. With
    `mask_column` they are the masks of that column, read as the source `masks` reads them.

    Paths are relative to `root`, or to the table's folder when it is null. Files are looked for
    only when they are read: one that is missing is a broken image."""

    path: str
    image_column: str = "path"
    label_column: str = _LABEL_COLUMN
    label_columns: Columns | None = None
    separator: Separator | None = None
    mask_column: str | None = None
    ignore: Ignore = None
    split_column: str | None = None
    root: str | None = None
    classes: ClassList = None

    kind: ClassVar[str] = "manifest"

    @cached_property
    def signal(self) -> SignalKind:
        return "grid" if self.mask_column else self._labels.signal(self._parquet)

    def class_names(self, raw: Path) -> tuple[str, ...]:
        return self._survey.class_names(self._readers.names, self.path)

    def counts(self, raw: Path) -> Mapping[tuple[str, str | None], int]:
        return self._survey.counts

    def count(self, raw: Path) -> int:
        return self._survey.split_sizes.total()

    def split_sizes(self, raw: Path) -> Mapping[str, int]:
        return self._survey.split_sizes

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        root = self._root
        if not root.is_dir():
            raise SourceError(root, "no such folder", expected="the one that paths are relative to", fix="set `root`")
        reader = self._readers.of_tables[0]
        for number, (where, image, label, split) in enumerate(self._rows()):
            if number < start:
                continue
            if not isinstance(image, str) or not image or "\0" in image:
                raise SourceError(where, f"path {image!r}", expected="the path of an image file")
            if "://" in image and not image.startswith("file:"):
                raise SourceError(where, f"path {image!r}, a URL", expected="a file", fix="fetch the images first")
            yield RawImage(self._split(split, where), reader.name(label, where), image, as_on_disk(root / image))

    def files(self) -> Iterator[str]:
        yield self.path
        yield from files_of(self.classes)
        for image in self.images(Path()):
            yield str(image.content)
            if isinstance(image.label, Mask):
                yield str(image.label.content)

    def meant(self, missing: str) -> Path | None:
        return near_miss(self._root, missing.removeprefix(f"{self._root}/"))

    @property
    def _root(self) -> Path:
        return Path(self.path).parent if self.root is None else Path(self.root)

    @property
    def _labels(self) -> LabelColumns:
        if self.mask_column:
            if self.label_columns or self.separator or self.label_column != _LABEL_COLUMN:
                raise SourceError("mask_column", "given beside columns of labels", expected="one of the two")
            return LabelColumns(self.mask_column, None, None)
        if self.ignore is not None:
            raise SourceError("ignore", "given without `mask_column`", expected="both, or neither")
        if self.label_columns and self.label_column != _LABEL_COLUMN:
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
        """The reading of labels, or of the paths of masks."""
        if self.mask_column:
            masks = Masks.of_settings(self.classes, self.ignore)
            return Readers([MaskReader(masks, self._root)], tuple(masks.class_names))
        return self._labels.readers(self._parquet, self.classes, self.notes)

    @cached_property
    def _survey(self) -> Survey:
        """The labels of all rows, from one pass over the table."""
        survey, reader = Survey(self.notes, self.signal), self._readers.of_tables[0]
        for where, _, label, split in self._rows():
            survey.add(self._split(split, where), label, reader, where)
        if not survey.split_sizes:
            raise SourceError(self.path, "no rows", expected="a row for each image, below a row of column names")
        if self.split_column is None and (
            named := [name for name in column_names(Path(self.path)) if name.lower() in _SPLIT_COLUMNS]
        ):
            remark = "images are all for training, though a column may name splits (set `split_column`)"
            self.notes.add(remark, named[0], survey.split_sizes.total())
        return survey

    def _split(self, name: object, where: str) -> str:
        return "train" if self.split_column is None else split_named(str(name).strip(), where)

    def _rows(self) -> Iterator[TableRow]:
        labels = self._labels
        columns = [self.image_column, *labels.names, *([self.split_column] if self.split_column else [])]
        for where, (image, *cells) in table_rows(Path(self.path), columns):
            split = cells.pop() if self.split_column else None
            yield where, image, labels.label(cells), split
