"""Stores that fit each other: one could be merged or averaged with the other."""

from typing import Any

import numpy as np

from pipeline.core.errors import StoreError
from pipeline.labels.reader import StoreReader

_SHORT_LIST, _PLACES = 10, 3  # that a message shows


def need_same(first: StoreReader, other: StoreReader) -> None:
    """Raises StoreError unless the labels of one store are those that the other would hold, so that
    they may be merged.
    """
    pairs = {
        "teacher": (first.manifest.teacher, other.manifest.teacher),
        "signal": (first.manifest.signal, other.manifest.signal),
        "encoding": (first.manifest.encoding, other.manifest.encoding),
        "temperature": (first.manifest.temperature, other.manifest.temperature),
        "temperatures": (first.manifest.temperatures, other.manifest.temperatures),
        "views": (first.manifest.views, other.manifest.views),
        "positions": (first.manifest.positions, other.manifest.positions),
        "dimensions": (first.manifest.num_dimensions, other.manifest.num_dimensions),
        "class names": (first.manifest.class_names, other.manifest.class_names),
    }
    for name, (mine, its) in pairs.items():
        if mine != its:
            found, wanted = _difference(its, mine)
            raise StoreError(other.location, f"{name} {found}", expected=f"{wanted} ({first.location})")
    _need_same_blocks(first, other)
    for name, table in first.tables.items():
        if not np.array_equal(table, other.tables[name]):
            raise StoreError(
                other.location,
                f"its table {name} is another one",
                expected=f"that of {first.location}",
                fix=f"dump it with --grow {first.path.parent}, which takes the tables over",
            )


def need_alike(first: StoreReader, other: StoreReader) -> None:
    """Raises StoreError unless the teachers of two stores labelled the same views with the same
    classes, so that they may be averaged.
    """
    mine, its = first.manifest, other.manifest
    for store in (first, other):
        if store.manifest.is_of_embeddings:
            found = "holds embeddings, each in the dimensions of its own teacher"
            raise StoreError(store.location, found, expected="labels of classes", fix="take one teacher's embeddings")
    for name in ("signal", "positions", "class_names", "temperature", "views", "view_numbers"):
        found, wanted = _difference(getattr(its, name), getattr(mine, name))
        if found != wanted:
            raise StoreError(
                other.location, f"{name.replace('_', ' ')} {found}", expected=f"{wanted} ({first.location})"
            )
    at, others_at = (manifest.encoding.get("positions") for manifest in (mine, its))
    if at != others_at:
        raise StoreError(other.location, f"labels at positions {others_at}", expected=f"{at} ({first.location})")
    if lost := int((other.samples.find(first.samples) < 0).sum()):
        found_ids = f"has no label for {lost} of {mine.num_samples} samples of {first.location}"
        raise StoreError(other.location, found_ids, expected="the same samples")
    _need_same_blocks(first, other)


def _difference(found: Any, wanted: Any) -> tuple[Any, Any]:
    """Returns what of two settings differs: of maps and of long lists the first few places."""
    if isinstance(found, list) and isinstance(wanted, list) and max(len(found), len(wanted)) > _SHORT_LIST:
        found, wanted = dict(enumerate(found)), dict(enumerate(wanted))
    if not isinstance(found, dict) or not isinstance(wanted, dict):
        return found, wanted
    keys = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)][:_PLACES]
    return {key: found[key] for key in keys if key in found}, {key: wanted[key] for key in keys if key in wanted}


def _need_same_blocks(first: StoreReader, other: StoreReader) -> None:
    """Raises StoreError where views are mixed of two images and the stores have other blocks, which
    the second image comes from.
    """
    if not first.views.mixes:
        return
    if first.manifest.block_samples != other.manifest.block_samples:
        found, expected = (f"blocks of {store.manifest.block_samples} samples" for store in (other, first))
    elif not first.samples.same(other.samples):
        found, expected = "other samples, or in another order", "the same, because its views are mixed of two images"
    else:
        return
    raise StoreError(other.location, found, expected=f"{expected} ({first.location})", fix="dump it for the same data")
