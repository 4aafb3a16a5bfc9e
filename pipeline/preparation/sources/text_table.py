"""A table of texts: CSV, TSV, JSON lines or Parquet, a row per text with its label."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.data.input_kinds import InputKindName
from pipeline.preparation.sources.base import RawImage
from pipeline.preparation.sources.labelled_table import LabelledTable


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TextTable(LabelledTable):
    """The texts of a table, in its order. Without `split_column` all are for training; an empty
    label is none. With `separator`, `label_columns` or a column of lists, labels are sets.

    A cell that is no text at all, such as a number, is refused: it is of another column. A cell
    without words is a broken text."""

    text_column: str = "text"

    kind: ClassVar[str] = "text_table"
    input_kind: ClassVar[InputKindName] = "tokens"

    @property
    def content_columns(self) -> tuple[str, ...]:
        return (self.text_column,)

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        reader, name = self._readers.of_tables[0], Path(self.path).name
        for number, (where, (text,), label, split) in enumerate(self._rows()):
            if number < start:
                continue
            if text is not None and not isinstance(text, str):
                found = f"column {self.text_column!r} has {text!r:.40} ({type(text).__name__})"
                raise SourceError(where, found, expected="a text", fix="set `text_column`")
            key = f"{name}:{where.rpartition(':')[2]}"
            yield RawImage(self._split(split, where), reader.name(label, where), key, text or "")
