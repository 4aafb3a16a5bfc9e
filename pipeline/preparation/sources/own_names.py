"""Parquet files that name their classes: each file's numbers are read by its own names."""

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.core.errors import SourceError, listed
from pipeline.preparation.sources.arrow import ParquetTable
from pipeline.preparation.sources.labels import Classes, check_names, in_order
from pipeline.preparation.sources.notes import Notes


class NamedTables(NamedTuple):
    """The reading of names in each file, and the names of all classes where they are known."""

    of_tables: list[Classes]
    names: tuple[str, ...] | None


def named_tables(tables: Sequence[ParquetTable], column: str, given: Classes, notes: Notes) -> NamedTables:
    """Returns how the labels of each file are read.

    The names in a file's metadata say what its numbers are. The setting `classes`, which is
    `given`, has their order; where it shares no name with the files, its names take the place of
    theirs.

    Raises SourceError where it is not clear what the numbers of a file are.
    """
    own = [table.class_names(column) for table in tables]
    for table, names in zip(tables, own, strict=True):
        check_names(names or (), table.path)
    lists = list(dict.fromkeys(names for names in own if names))
    if not lists:
        return NamedTables([given] * len(tables), given.names)
    if given.names is None:
        _need_names(tables, own, column)
    elif not set(given.names) & {name for names in lists for name in names}:
        _need_one_list(lists, given.names, tables)
        return NamedTables([Classes(given.names)] * len(tables), given.names)
    else:
        _need_known(tables, own, given.names)
    if len(lists) > 1:
        remark = "lists of class names in the files: each file is read by its own"
        notes.add(
            remark,
            next(table.path.name for table, names in zip(tables, own, strict=True) if names == lists[1]),
            len(lists),
        )
    names = given.names or (lists[0] if len(lists) == 1 else in_order({name for one in lists for name in one}))
    return NamedTables([Classes(one) if one else given for one in own], names)


def _need_names(tables: Sequence[ParquetTable], own: Sequence[tuple[str, ...] | None], column: str) -> None:
    named = next(table for table, names in zip(tables, own, strict=True) if names)
    for table, names in zip(tables, own, strict=True):
        if not names and table.holds_numbers(column):
            found = f"numbers without class names, which {named.path.name} has in its metadata"
            raise SourceError(table.path, found, fix="set `classes` in the source's settings")


def _need_one_list(lists: Sequence[tuple[str, ...]], given: tuple[str, ...], tables: Sequence[ParquetTable]) -> None:
    if len(lists) > 1 or len(lists[0]) != len(given):
        found = f"`classes` has none of the names in the files' metadata ({listed(lists[0], 60)})"
        fix = "give these names in `classes`, or as many others where all files have one list"
        raise SourceError(tables[0].path.parent, found, fix=fix)


def _need_known(tables: Sequence[ParquetTable], own: Sequence[tuple[str, ...] | None], given: tuple[str, ...]) -> None:
    for table, names in zip(tables, own, strict=True):
        if unknown := [name for name in names or () if name not in given]:
            found = f"class {unknown[0]!r} in its metadata, which `classes` lacks"
            raise SourceError(table.path, found, expected=f"one of {listed(given)}", fix="add it to `classes`")
