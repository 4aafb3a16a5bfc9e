"""A table of image files: CSV, TSV or Parquet, a row per image with its path and its label."""

import csv
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError, suggest
from pipeline.data.dataset import SPLITS
from pipeline.preparation.sources.arrow import ParquetTable
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.files import split_named
from pipeline.preparation.sources.labels import ClassList, files_of, read_classes
from pipeline.preparation.sources.near_misses import near_miss

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
TableRow = tuple[str, object, object, object]  # its place, then its image, label and split


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Table(Source):
    """The images of a table, in its order. Without `split_column` all are for training; an empty
    label is none.

    Paths are relative to `root`, or to the table's folder when it is null. Files are looked for
    only when they are read: one that is missing is a broken image."""

    path: str
    image_column: str = "path"
    label_column: str = "label"
    split_column: str | None = None
    root: str | None = None
    classes: ClassList = None

    kind: ClassVar[str] = "manifest"

    def class_names(self, raw: Path) -> tuple[str, ...]:
        return self._survey[0]

    def count(self, raw: Path) -> int:
        return self._survey[1]

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        root = self._root
        if not root.is_dir():
            raise SourceError(root, "no such folder", expected="the one that paths are relative to", fix="set `root`")
        classes = read_classes(self.classes)
        for number, (where, image, label, split) in enumerate(self._rows()):
            if number < start:
                continue
            if not isinstance(image, str) or not image or "\0" in image:
                raise SourceError(where, f"path {image!r}", expected="the path of an image file")
            if "://" in image and not image.startswith("file:"):
                raise SourceError(where, f"path {image!r}, a URL", expected="a file", fix="fetch the images first")
            yield RawImage(self._split(split, where), classes.name(label, where), image, root / image)

    def files(self) -> Iterator[str]:
        yield self.path
        yield from files_of(self.classes)
        yield from (str(image.content) for image in self.images(Path()))

    def meant(self, missing: str) -> Path | None:
        return near_miss(self._root, missing.removeprefix(f"{self._root}/"))

    @property
    def _root(self) -> Path:
        return Path(self.path).parent if self.root is None else Path(self.root)

    @cached_property
    def _survey(self) -> tuple[tuple[str, ...], int]:
        """The class names and the number of rows, from one pass over the table."""
        classes, count = read_classes(self.classes), 0
        found: dict[str, set[str | None]] = {split: set() for split in SPLITS}
        for where, _, label, split in self._rows():
            found[self._split(split, where)].add(classes.name(label, where))
            count += 1
        if not count:
            raise SourceError(self.path, "no rows", expected="a row for each image, below a row of column names")
        return classes.in_order(found, self.path), count

    def _split(self, name: object, where: str) -> str:
        return "train" if self.split_column is None else split_named(str(name).strip(), where)

    def _rows(self) -> Iterator[TableRow]:
        if not Path(self.path).is_file():
            raise SourceError(self.path, "no such file", fix="correct `path` in the source's settings")
        columns = [self.image_column, self.label_column, *([self.split_column] if self.split_column else [])]
        suffix = Path(self.path).suffix.lower()
        if suffix == ".parquet":
            rows = _parquet_rows(Path(self.path), columns)
        elif suffix in _DELIMITERS:
            rows = _text_rows(Path(self.path), columns, _DELIMITERS[suffix])
        else:
            raise SourceError(self.path, f"ends in {suffix!r}", expected="a table in .csv, .tsv or .parquet")
        for where, values in rows:
            image, label, split = values if self.split_column else (*values, None)
            yield where, image, label, split


def _parquet_rows(path: Path, columns: list[str]) -> Iterator[tuple[str, tuple[object, ...]]]:
    table = ParquetTable(path)
    for column in columns:
        _check_column(column, table.columns, path)
    for number, values in enumerate(table.rows(columns)):
        yield f"{path}:{number}", values


def _text_rows(path: Path, columns: list[str], delimiter: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(reader, [])
            places = [_check_column(column, header, path) for column in columns]
            for fields in reader:
                where = f"{path}:{reader.line_num}"
                if len(fields) not in (0, len(header)):
                    raise SourceError(where, f"{len(fields)} fields", expected=f"{len(header)}, as in its first line")
                if fields:
                    yield where, tuple(fields[place] for place in places)
    except (csv.Error, UnicodeDecodeError) as error:
        raise SourceError(path, f"not a table ({error})", expected="UTF-8 text") from None


def _check_column(name: str, columns: list[str], path: Path) -> int:
    if name not in columns:
        raise SourceError(path, f"no column {name!r}", expected=suggest(name, columns))
    return columns.index(name)
