"""The columns of a new project's table, where they have other names than the settings expect."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.core.errors import PipelineError, listed
from pipeline.preparation.sources import SOURCES
from pipeline.preparation.sources.labelled_table import LABEL_COLUMN, SPLIT_COLUMNS, LabelledTable
from pipeline.preparation.sources.table_rows import column_names, table_rows

_FILES = ("path", "file", "filename", "filepath", "filelocation")
_LABEL = "label_column"
#: By setting the names that columns usually have, without capitals, `_` and the like; the first
#: that is there is taken.
_USUAL: dict[str, Sequence[str]] = {
    "image_column": (*_FILES, "image", "imagepath", "imagefile", "imagename", "imageid", "img", "imgpath", "photo"),
    "sound_column": (*_FILES, "sound", "audio", "audiopath", "soundfile", "audiofile", "wav", "clip", "recording"),
    "text_column": ("text", "texts", "content", "body", "document", "sentence", "review", "message", "article"),
    _LABEL: ("label", "labels", "class", "classname", "category", "target", "tag", "tags", "y", "species", "breed"),
}
_ENTRIES = {"0", "1", "0.0", "1.0", "-1", "-1.0", "true", "false", "yes", "no", "", "na", "nan"}
_MOST_ROWS = 1000  # that are read to find columns of 0 and 1


def with_columns(row: Mapping[str, Any], task: str | None) -> dict[str, Any]:
    """Returns `prepare.source` with the columns of its table, as far as their names say what they
    hold: those of samples and of labels; for several classes a sample the columns of 0 and 1, where
    no other has labels.

    A table that can't be read is left to who reads its rows.
    """
    with suppress(PipelineError):
        return {**row, **dict(_found(row, task))}
    return dict(row)


def columns_line(row: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line about the columns that were found."""
    found = {key: [value] if isinstance(value, str) else value for key, value in row.items() if key not in before}
    named = [f"{listed(value, 60)} ({key})" for key, value in found.items() if key.startswith(("label", *_USUAL))]
    if named:
        yield f"columns: {', '.join(named)}, by their names"


def _found(row: Mapping[str, Any], task: str | None) -> Iterator[tuple[str, Any]]:
    source = SOURCES[row["kind"]]
    if not issubclass(source, LabelledTable) or not Path(row["path"]).is_file():
        return
    names = column_names(Path(row["path"]))
    usual = {each.name: each.default for each in fields(source) if each.name in _USUAL}
    taken: set[str] = set()
    for setting in (name for name in usual if name != _LABEL):
        name = str(usual[setting]) if usual[setting] in names else _named(_USUAL[setting], names)
        if name is not None:
            taken.add(name)
            if name != usual[setting]:
                yield setting, name
    if task == "segmentation" or LABEL_COLUMN in names:
        return
    left = [name for name in names if name not in taken and name.lower() not in SPLIT_COLUMNS]
    label = _named(_USUAL[_LABEL], left) or (left[0] if taken and len(left) == 1 else None)
    if label is not None:
        yield _LABEL, label
    elif task == "multilabel" and (entries := _columns_of_entries(Path(row["path"]), left)):
        yield "label_columns", entries


def _named(usual: Sequence[str], names: Collection[str]) -> str | None:
    by_word = {"".join(filter(str.isalnum, name)).lower(): name for name in reversed([*names])}
    return next((by_word[word] for word in usual if word in by_word), None)


def _columns_of_entries(path: Path, names: Sequence[str]) -> list[str]:
    """Returns the columns that hold nothing but yes, no and unknown."""
    rows = [cells for _, cells in islice(table_rows(path, names), _MOST_ROWS)]
    words = [
        {str("" if cells[place] is None else cells[place]).strip().lower() for cells in rows}
        for place in range(len(names))
    ]
    return [name for name, each in zip(names, words, strict=True) if each <= _ENTRIES and len(each) > 1]
