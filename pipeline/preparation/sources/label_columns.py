"""The columns of a table in which labels are: one of classes or sets, or one for each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from pydantic import Field

from pipeline.core.errors import SourceError, listed
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.sources.arrow import ParquetTable
from pipeline.preparation.sources.label_sets import LabelReader, LabelSets
from pipeline.preparation.sources.labels import Classes, ClassList, read_classes
from pipeline.preparation.sources.notes import Notes
from pipeline.preparation.sources.own_names import named_tables

Separator = Annotated[str, Field(min_length=1)]  # the setting `separator`
Columns = Annotated[tuple[str, ...], Field(min_length=1)]  # the setting `label_columns`


class Readers(NamedTuple):
    """The reading of labels in each table, and the names of all classes where they are known."""

    of_tables: Sequence[LabelReader]
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class LabelColumns:
    """The places of labels in the rows of some tables.

    Attributes:
        one: The column of labels: each is a class, or a set of classes.
        several: The columns of entries, each of which is a class; None: `one` has the labels.
        separator: What stands between the names in a cell of `one`; None: a cell is one name.
    """

    one: str
    several: tuple[str, ...] | None
    separator: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read."""
        return self.several or (self.one,)

    def label(self, cells: Sequence[object]) -> object:
        """Returns the label in the cells of these columns, as it was found."""
        return dict(zip(self.several, cells, strict=True)) if self.several else cells[0]

    def signal(self, tables: Sequence[ParquetTable]) -> SignalKind:
        """Returns what the labels are; `tables` are those whose columns may be of lists."""
        are_sets = self.several or self.separator or any(table.holds_lists(self.one) for table in tables)
        return "binary" if are_sets else "categorical"

    def readers(self, tables: Sequence[ParquetTable], classes: ClassList, notes: Notes) -> Readers:
        """Returns how the labels of each table are read, and the classes where they are known.

        Args:
            tables: Those that may name their classes; none where the table is a text.
            classes: The setting.
        """
        if self.several:
            self._check(classes)
            of_columns = read_classes(self.several, least=1)
            return Readers([LabelSets(of_columns)] * max(1, len(tables)), of_columns.names)
        are_sets = self.signal(tables) == "binary"
        given = read_classes(classes, least=1 if are_sets else 2)
        of_tables: Sequence[Classes] = [given]
        names = given.names
        if tables:
            of_tables, names = named_tables(tables, self.one, given, notes)
        return Readers([LabelSets(each, self.separator) for each in of_tables] if are_sets else of_tables, names)

    def _check(self, classes: ClassList) -> None:
        """Raises SourceError for settings that contradict `label_columns`."""
        if self.separator is not None:
            found = f"columns {listed(self.several or (), 60)}, and `separator`, which is for one column of names"
            raise SourceError("label_columns", found, expected="one of the two")
        if classes is not None:
            raise SourceError("classes", "given beside `label_columns`, which are the classes", fix="leave it out")
