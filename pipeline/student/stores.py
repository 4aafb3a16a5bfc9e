"""The stores that students' rows name: in a folder of stores, at their URL, or one packed store."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.errors import ConfigError, StoreError, suggest
from pipeline.core.progress import say
from pipeline.labels.notes import told_notes
from pipeline.labels.packed import is_packed
from pipeline.labels.reader import StoreReader
from pipeline.labels.servers import is_url
from pipeline.student.settings import TrainStudent


def open_stores(labels: str, rows: Mapping[str, TrainStudent], table: str) -> dict[str, StoreReader]:
    """Returns the store that each student learns from, and prints what its labels stand for.

    Args:
        labels: The folder of the stores, or its URL; or the path or URL of one packed store, which
            is the one that the rows name.
        table: The place of the rows, for messages.

    Raises:
        StoreError: There is no such store, or it is damaged.
        ConfigError: A student can't learn from its labels.
    """
    named = sorted({row.labels for row in rows.values()})
    if is_packed(labels) and len(named) > 1:
        found = f"one packed store, for {', '.join(rows)}, whose `labels` are {', '.join(named)}"
        raise ConfigError(
            labels, found, expected="a folder of stores", fix="unpack it into one, or take `group` from the rows"
        )
    stores = {}
    for name, row in rows.items():
        stores[name] = _open(labels, row, f"{table}.{name}")
        for line in told_notes(stores[name].manifest, f"{table}.{name}.labels"):
            say(line)
        row.check_labels(stores[name].encoding, stores[name].codec, stores[name].views.mixes, f"{table}.{name}")
    return stores


def _open(labels: str, row: TrainStudent, where: str) -> StoreReader:
    if is_packed(labels):
        return StoreReader(labels)
    return open_named(labels, row.labels, f"{where}.labels")


def open_named(folder: str, store: str, where: str) -> StoreReader:
    """Returns a store of a folder, or of its URL, by its name; raises StoreError where it is not
    there.

    Args:
        where: The place of its name, for the message.
    """
    name = f"{store}.zarr"
    return StoreReader(f"{folder.rstrip('/')}/{name}" if is_url(folder) else _find(Path(folder), name, where))


def _find(folder: Path, name: str, where: str) -> Path:
    path = folder / name
    if path.exists():
        return path
    there = sorted(each.stem for each in folder.glob("*.zarr"))
    if not there:
        raise StoreError(path, "no such store, nor any other", fix="run `dvc repro dump_labels`")
    raise StoreError(path, "no such store", expected=suggest(path.stem, there), fix=f"fix {where}")
