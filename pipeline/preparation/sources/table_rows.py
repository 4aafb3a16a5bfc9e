"""The rows of a table in a text file or a Parquet file: the cells of some of its columns."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.core.errors import SourceError, suggest
from pipeline.core.plain_files import text_lines
from pipeline.preparation.sources.arrow import ParquetTable
from pipeline.preparation.sources.inputs import need_file

_DELIMITERS = {".csv": ",", **dict.fromkeys((".tsv", ".tab", ".inter", ".user", ".item"), "\t")}  # RecBole's last
_LINES = (".jsonl", ".ndjson")
_PACKED = ".gz"
ENDINGS = ".csv, .tsv, .jsonl (each packed as .gz, too) or .parquet"
_MOST_FIELD = 1 << 24  # characters in a cell


def is_parquet(path: Path) -> bool:
    """Returns whether a table is a Parquet file, by its name."""
    return path.suffix.lower() == ".parquet"


def _suffix(path: Path) -> str:
    """Returns what a table's name ends in, in small letters; of a packed one what its own does."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix == _PACKED else suffix


def need_table(path: Path) -> None:
    """Raises SourceError where there is no file."""
    need_file(path)
    if not path.is_file():
        raise SourceError(path, "no such file", fix="correct `path` in the source's settings")


def column_names(path: Path) -> list[str]:
    """Returns the names of a table's columns; of JSON lines those of the first one.

    Raises SourceError where the file is no table.
    """
    need_table(path)
    if is_parquet(path):
        return ParquetTable(path).columns
    if _suffix(path) in _LINES:
        _, first = next(_json_lines(path), ("", {}))
        return list(first)
    delimiter = _delimiter(path)
    csv.field_size_limit(_MOST_FIELD)
    try:
        return next(csv.reader(text_lines(path, encoding="utf-8-sig", ends=True), delimiter=delimiter), [])
    except (csv.Error, ValueError) as error:
        raise SourceError(path, f"not a table ({error})", expected="UTF-8 text") from None


def _delimiter(path: Path) -> str:
    """Returns what stands between cells; raises SourceError for a name of another file."""
    suffix = _suffix(path)
    if suffix not in _DELIMITERS:
        raise SourceError(path, f"ends in {path.suffix!r}", expected=f"a table in {ENDINGS}")
    return _DELIMITERS[suffix]


def table_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yields the place of each row and its cells in some columns: texts, or in Parquet and JSON
    lines values of any type.

    Raises SourceError where the file is no such table, or lacks a column.
    """
    need_table(path)
    suffix = _suffix(path)
    if is_parquet(path):
        yield from _parquet_rows(path, columns)
    elif suffix in _LINES:
        yield from _line_rows(path, columns)
    else:
        yield from _text_rows(path, columns, _delimiter(path))


def _line_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, tuple[object, ...]]]:
    for where, row in _json_lines(path):
        if lacking := [column for column in columns if column not in row]:
            raise SourceError(where, f"no key {lacking[0]!r}", expected=suggest(lacking[0], list(row)))
        yield where, tuple(row[column] for column in columns)


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    try:
        for number, line in enumerate(text_lines(path, encoding="utf-8-sig", ends=True), start=1):
            if line.strip():
                where = f"{path}:{number}"
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise SourceError(where, f"not JSON ({error.msg})", expected="an object in each line") from None
                if not isinstance(row, dict):
                    raise SourceError(where, f"a {type(row).__name__}", expected="an object in each line")
                yield where, row
    except ValueError as error:
        raise SourceError(path, f"not a table ({error})", expected="UTF-8 text") from None


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, tuple[object, ...]]]:
    table = ParquetTable(path)
    for column in columns:
        _check_column(column, table.columns, path)
    for number, values in enumerate(table.rows(list(columns))):
        yield f"{path}:{number}", values


def _text_rows(path: Path, columns: Sequence[str], delimiter: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    csv.field_size_limit(_MOST_FIELD)
    lines = text_lines(path, encoding="utf-8-sig", ends=True)
    try:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = next(reader, [])
        places = [_check_column(column, header, path) for column in columns]
        for fields in reader:
            where = f"{path}:{reader.line_num}"
            if len(fields) not in (0, len(header)):
                raise SourceError(where, f"{len(fields)} fields", expected=f"{len(header)}, as in its first line")
            if fields:
                yield where, tuple(fields[place] for place in places)
    except (csv.Error, ValueError) as error:
        raise SourceError(path, f"not a table ({error})", expected="UTF-8 text") from None
    finally:
        lines.close()  # with its file, whoever still holds the reader


def _check_column(name: str, columns: list[str], path: Path) -> int:
    if name not in columns:
        raise SourceError(path, f"no column {name!r}", expected=suggest(name, columns))
    return columns.index(name)
