"""Parquet files, read a few rows at a time: the one file of the sources that imports pyarrow."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.core.errors import SourceError
from pipeline.preparation.sources.inputs import need_file


class ParquetTable:
    """A Parquet file. Raises SourceError when it is none, when it is damaged, or when pyarrow is
    missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as file:
            self._schema: Any = file.schema_arrow
            self.num_rows: int = file.metadata.num_rows
        self.columns: list[str] = list(self._schema.names)

    def image_columns(self) -> list[str]:
        """Returns the columns that hold image files.

        Those that Hugging Face's metadata names, else all columns of bytes, or of structs of
        `bytes` and `path`."""
        named = [name for name, feature in self._features().items() if feature.get("_type") == "Image"]
        return named or [name for name in self.columns if self._holds_bytes(name)]

    def label_columns(self) -> list[str]:
        """Returns the columns that hold labels, or lists of them: those that Hugging Face's
        metadata names, else `label`.
        """
        named = [name for name, feature in self._features().items() if _of_one(feature).get("_type") == "ClassLabel"]
        return named or [name for name in self.columns if name == "label"]

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """Returns the names that numbers in a column stand for, if the metadata has them."""
        names = _of_one(self._features().get(column, {})).get("names")
        return tuple(map(str, names)) if isinstance(names, list) else None

    def holds_numbers(self, column: str) -> bool:
        """Returns whether a column is of whole numbers, or of lists of them."""
        import pyarrow.types as types

        kind = self._schema.field(column).type
        return bool(types.is_integer(kind.value_type if self.holds_lists(column) else kind))

    def holds_lists(self, column: str) -> bool:
        """Returns whether there is such a column, and it is of lists."""
        import pyarrow.types as types

        if column not in self.columns:
            return False
        kind = self._schema.field(column).type
        return any(is_list(kind) for is_list in (types.is_list, types.is_large_list, types.is_fixed_size_list))

    def rows(self, columns: list[str], start: int = 0, at_once: int = 4096) -> Iterator[tuple[object, ...]]:
        """Yields the values of some columns, row by row from `start`; groups of rows before it are
        not read.
        """
        with self._opened() as file:
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                if start < size:
                    batches = file.iter_batches(at_once, row_groups=[group], columns=columns, use_threads=False)
                    rows = (row for batch in batches for row in _rows_of(batch, columns))
                    yield from islice(rows, start, None)
                start = max(start - size, 0)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Opens the file only for as long as it is read: there may be thousands."""
        need_file(self.path)
        with _faults(self.path):
            import pyarrow.parquet

            with pyarrow.parquet.ParquetFile(self.path) as file:
                yield file

    def _features(self) -> dict[str, Any]:
        try:
            features = json.loads((self._schema.metadata or {})[b"huggingface"])["info"]["features"]
        except (KeyError, TypeError, ValueError):
            return {}
        return {
            name: feature for name, feature in features.items() if name in self.columns and isinstance(feature, dict)
        }

    def _holds_bytes(self, column: str) -> bool:
        import pyarrow.types as types

        kind = self._schema.field(column).type
        if types.is_struct(kind):
            return any(field.name == "bytes" for field in kind)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _of_one(feature: dict[str, Any]) -> dict[str, Any]:
    """Returns the feature of one label, where those of a column are lists of it."""
    inner = feature.get("feature")
    return inner if isinstance(inner, dict) else feature


def _rows_of(batch: Any, columns: list[str]) -> Iterator[tuple[object, ...]]:
    return zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        fix = "install the extra `data` (pip install 'potstill[data]')"
        raise SourceError(path, f"pyarrow, which reads Parquet, can't be imported ({error})", fix=fix) from None
    except Exception as error:
        if not (type(error).__module__.startswith("pyarrow") or isinstance(error, OSError)):
            raise
        raise SourceError(path, f"not a sound Parquet file ({error})", fix="fetch it again") from None
