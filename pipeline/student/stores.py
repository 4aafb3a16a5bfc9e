"""The store that a student's row names: a folder of stores, or their URL."""

from pathlib import Path

from pipeline.core.errors import StoreError, suggest
from pipeline.core.progress import say
from pipeline.labels.notes import told_notes
from pipeline.labels.reader import StoreReader
from pipeline.labels.remote import is_url
from pipeline.student.settings import TrainStudent


def open_store(labels: str, settings: TrainStudent, where: str) -> StoreReader:
    """Returns the store that a student learns from, and prints what its labels stand for.

    Args:
        labels: The folder of the stores, or its URL.
        where: The student's row.

    Raises:
        StoreError: There is no such store, or it is damaged.
        ConfigError: The student can't learn from its labels.
    """
    name = f"{settings.labels}.zarr"
    store = StoreReader(f"{labels.rstrip('/')}/{name}" if is_url(labels) else _find(Path(labels), name, where))
    for line in told_notes(store.manifest, f"{where}.labels"):
        say(line)
    settings.check_labels(store.encoding, store.codec, store.views.mixes, where)
    return store


def _find(folder: Path, name: str, where: str) -> Path:
    path = folder / name
    if path.exists():
        return path
    there = sorted(each.stem for each in folder.glob("*.zarr"))
    if not there:
        raise StoreError(path, "no such store, nor any other", fix="run `dvc repro dump_labels`")
    raise StoreError(path, "no such store", expected=suggest(path.stem, there), fix=f"fix {where}.labels")
