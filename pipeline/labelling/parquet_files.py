"""Parquet files of labels; pyarrow is imported where one is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.core.errors import ModelError
from pipeline.core.plain_files import odd_file


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """Gives pyarrow's view of a file; raises ModelError where it is damaged, or pyarrow is
    missing.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        fix = "install the extra `data` (`pip install -c constraints.txt .[data]`)"
        raise ModelError(path, f"pyarrow, which reads Parquet, can't be imported ({error})", fix=fix) from None
    if not path.exists() or odd_file(path):
        raise ModelError(path, odd_file(path) or "no such file", expected="a Parquet file")
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, ValueError) as error:  # pyarrow's errors are of these
        raise ModelError(path, f"not a sound Parquet file ({error})") from None


def read_text(path: Path, column: str) -> list[str]:
    """Returns a column of text; raises ModelError where there is none, or an entry is missing."""
    with open_parquet(path) as file:
        need_columns(file, [column], path)
        values = [str(value) if value is not None else None for value in file.read([column])[column].to_pylist()]
    if None in values:
        raise ModelError(path, f"column {column!r} lacks the entry of row {values.index(None)}", expected="a name each")
    return [value for value in values if value is not None]


def need_columns(file: Any, columns: list[str], path: Path) -> None:
    """Raises ModelError where a file lacks one of some columns."""
    there = list(file.schema_arrow.names)
    if lacking := [name for name in columns if name not in there]:
        raise ModelError(path, f"columns {', '.join(there)}", expected=f"a column {lacking[0]!r}")
