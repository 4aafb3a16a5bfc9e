"""A table of image files: CSV, TSV or Parquet, a row per image with its path and its label."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.sources.file_table import FileTable
from pipeline.preparation.sources.label_columns import LabelColumns, Readers
from pipeline.preparation.sources.labelled_table import LABEL_COLUMN
from pipeline.preparation.sources.mask import Ignore, Mask, MaskReader, Masks


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Table(FileTable):
    """The images of a table, in its order. Without `split_column` all are for training; an empty
    label is none. With `separator`, `label_columns` or a column of lists, labels are sets. With
    `mask_column` they are the masks of that column, read as the source `masks` reads them.

    Paths are relative to `root`, or to the table's folder when it is null. Files are looked for
    only when they are read: one that is missing is a broken image."""

    image_column: str = "path"
    mask_column: str | None = None
    ignore: Ignore = None

    kind: ClassVar[str] = "manifest"

    @property
    def content_columns(self) -> tuple[str, ...]:
        return (self.image_column,)

    @cached_property
    def signal(self) -> SignalKind:
        return "grid" if self.mask_column else self._labels.signal(self._parquet)

    def files(self) -> Iterator[str]:
        yield from super().files()
        for image in self.images(Path()):
            yield str(image.content)
            if isinstance(image.label, Mask):
                yield str(image.label.content)

    @property
    def _labels(self) -> LabelColumns:
        if self.mask_column:
            if self.label_columns or self.separator or self.label_column != LABEL_COLUMN:
                raise SourceError("mask_column", "given beside columns of labels", expected="one of the two")
            return LabelColumns(self.mask_column, None, None)
        if self.ignore is not None:
            raise SourceError("ignore", "given without `mask_column`", expected="both, or neither")
        return super()._labels

    @cached_property
    def _readers(self) -> Readers:
        """The reading of labels, or of the paths of masks."""
        if self.mask_column:
            masks = Masks.of_settings(self.classes, self.ignore)
            return Readers([MaskReader(masks, self._root)], tuple(masks.class_names))
        return super()._readers
