"""The task of a new project: what its labels are, and the settings that fit them."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.core.config import Setting
from pipeline.core.errors import ConfigError, PipelineError, listed, suggest
from pipeline.data.signal_kinds import SignalKind
from pipeline.doctor.choice import Choice, value_at
from pipeline.doctor.grid_task import fit_grid
from pipeline.labels.encodings import ENCODINGS
from pipeline.preparation.sources import build_source
from pipeline.preparation.sources.table import Table
from pipeline.preparation.sources.table_rows import column_names
from pipeline.student.losses import LOSSES

#: By name what the labels are; None: anything.
TASKS: dict[str, SignalKind | None] = {
    "classification": "categorical",
    "multilabel": "binary",
    "segmentation": "grid",
    "embedding": None,
}
_ASKED: dict[SignalKind, dict[str, str]] = {"binary": {"separator": "|"}, "grid": {"labels": "masks"}}
_MEANING: dict[SignalKind, str] = {
    "categorical": "one class of several",
    "binary": "sets of classes",
    "grid": "masks",
}
_FIX: dict[SignalKind, str] = {
    "categorical": "leave TASK out: the task follows from the labels",
    "binary": "name a source whose labels are sets: SOURCE=manifest, parquet, arrays or webdataset (docs/own-data.md)",
    "grid": "name a source of masks: SOURCE=masks, with DATA/images, DATA/masks and DATA/classes.txt, or "
    "SOURCE=manifest, a table (docs/own-data.md)",
}
_MASK = "mask"
_LOSS = {"kind": "binary_kd"}
_EMBEDDING = {"kind": "vector_int8"}
_ODDS = {"kind": "log_odds_uint8", "range_nats": 16.0, "steps": 127}


def row_for_task(row: dict[str, Any], task: str | None) -> dict[str, Any]:
    """Returns `prepare.source` with the settings that a task asks for.

    A table's cells then hold names with `|` between them, unless its own columns are sets, or the
    paths of masks; scenes come with masks.

    Raises ConfigError where there is no such task, or the source's labels are of another one.
    """
    if task is None:
        return row
    if task not in TASKS:
        raise ConfigError("TASK (--task)", repr(task), expected=suggest(task, list(TASKS)))
    wanted, found = TASKS[task], source_signal(row)
    if wanted is None or found in (wanted, None):
        return row
    if asked := _asked(wanted, row):
        with suppress(PipelineError):
            build_source(row | asked, "source")
            return row | asked
    labels = f"{task}, and labels of this source ({row['kind']}) are {_MEANING[found]}"
    raise ConfigError("TASK (--task)", labels, expected=f"labels that are {_MEANING[wanted]}", fix=_FIX[wanted])


def _asked(wanted: SignalKind, row: Mapping[str, Any]) -> dict[str, str]:
    if wanted == "grid" and row["kind"] == Table.kind:
        table = Path(row["path"])
        return {"mask_column": _mask_column(table), "classes": str(table.parent / "classes.txt")}
    return _ASKED.get(wanted, {})


def _mask_column(table: Path) -> str:
    """Returns the column of a table that has paths of masks: `mask`, or the one with that in its
    name; raises ConfigError where that is none, or several.
    """
    columns = column_names(table) if table.exists() else [_MASK]
    found = [name for name in columns if _MASK in name.lower()]
    if _MASK not in found and len(found) != 1:
        expected = f"a column {_MASK}, with the path of each image's mask"
        raise ConfigError(table, f"the columns {listed(columns)}", expected=expected, fix="name it so")
    return _MASK if _MASK in found else found[0]


def source_signal(row: Mapping[str, Any]) -> SignalKind | None:
    """Returns what the labels of a source are; None where it can't be read."""
    try:
        return build_source(dict(row), "source").signal
    except PipelineError:
        return None


def fit_task(task: str | None, params: Mapping[str, Any]) -> Iterator[Choice]:
    """Yields the store of embeddings that a task asks for, and the students that learn from it.

    A twin stays as it is: it shows what labels and embeddings of the teacher are good for.
    """
    if task != "embedding":
        return
    why = "the teacher's embedding, a byte for each dimension"
    defaults, rows = value_at(params, "students_defaults"), value_at(params, "students")
    taught = [name for name, row in rows.items() if {**defaults, **row}["soft_weight"]]
    features = [Setting(f"students.{name}.features", "embedding", why) for name in taught]
    line = f"embedding: store embedding, {why}; {listed(taught, 60)} learn from it beside labels"
    yield Choice(line, [Setting("encodings.embedding", _EMBEDDING, why), *features])


def fit_signal(signal: SignalKind, params: Mapping[str, Any]) -> Iterator[Choice]:
    """Yields what labels that are sets or masks ask for; nothing for the usual ones."""
    if signal == "grid":
        yield from fit_grid(params)
    if signal != "binary":
        return
    why = "each class is yes or no by itself"
    places = {"students_defaults": value_at(params, "students_defaults")}
    places |= {f"students.{name}": row for name, row in value_at(params, "students").items() if "loss" in row}
    other = [place for place, row in places.items() if signal not in LOSSES[row["loss"]["kind"]].signals]
    losses = [Setting(f"{place}.loss", _LOSS, why) for place in other]
    yield Choice("students: the loss binary_kd, because an image is of any number of classes", losses)
    rows = value_at(params, "encodings")
    unfit = [name for name, row in rows.items() if row["kind"] in ENCODINGS and not _fits(row["kind"], signal)]
    removed = [Setting(f"encodings.{name}", None, why, removed=True) for name in unfit]
    students = value_at(params, "students").items()
    named = [Setting(f"students.{name}.labels", "odds", why) for name, row in students if row["labels"] in unfit]
    line = f"labels: store odds, a byte for each class; no store {listed(unfit, 60)}: made for one class of several"
    yield Choice(line, [*removed, Setting("encodings.odds", _ODDS, why), *named])


def _fits(kind: str, signal: SignalKind) -> bool:
    """Returns whether an encoding is for labels of this kind, or for embeddings."""
    return not {signal, "vector"}.isdisjoint(ENCODINGS[kind].signals)
