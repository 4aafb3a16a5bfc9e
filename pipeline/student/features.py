"""The store of embeddings that a student's row names, and whether it fits the row's labels."""

from collections.abc import Mapping

from pipeline.core.errors import ConfigError
from pipeline.core.progress import say
from pipeline.labels.packed import is_packed
from pipeline.labels.reader import StoreReader
from pipeline.student.settings import TrainStudent
from pipeline.student.stores import open_named


def open_features(
    labels: str, rows: Mapping[str, TrainStudent], stores: Mapping[str, StoreReader], table: str
) -> dict[str, StoreReader]:
    """Returns the store of embeddings of each student that names one, and prints what is to be
    known of it.

    Raises StoreError where there is none, ConfigError where it does not fit the row.

    Args:
        labels: The folder of the stores, or its URL.
        stores: The stores of their labels.
        table: The place of the rows, for messages.
    """
    found = {}
    for name, row in rows.items():
        if row.features is None:
            continue
        where = f"{table}.{name}.features"
        if is_packed(labels):
            fix = "unpack it and the store of embeddings into one folder"
            raise ConfigError(labels, f"one packed store, and {where} names another", expected="a folder", fix=fix)
        found[name] = open_named(labels, row.features, where)
        check_features(found[name], stores[name], where)
        if line := features_line(row):
            say(f"{table}.{name}: {line}")
    return found


def check_features(features: StoreReader, labels: StoreReader, where: str) -> None:
    """Raises ConfigError where a store is not of embeddings, or of other views than the labels."""
    if not features.manifest.is_of_embeddings:
        found = f"{features.location} holds labels of classes"
        raise ConfigError(where, found, expected="a store of embeddings", fix="name it in `labels`")
    for what, own, wanted in (
        ("views", features.views, labels.views),
        ("view numbers", features.manifest.view_numbers, labels.manifest.view_numbers),
    ):
        if own != wanted:
            found = f"{features.location} has other {what} than {labels.location}, whose views are shown"
            raise ConfigError(where, found, expected="stores of one dump", fix="dump both again")


def features_line(row: TrainStudent) -> str | None:
    """Returns the line about a student that learns from features alone, for it and for the
    check-up; None: it learns from labels.
    """
    if row.learns_classes:
        return None
    return "learns from features alone: its head stays random, and its accuracy says nothing: `potstill probe`"
