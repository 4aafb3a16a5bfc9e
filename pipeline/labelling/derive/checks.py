"""Stores that fit each other: one could be merged or averaged with the other."""

import numpy as np

from pipeline.core.errors import StoreError
from pipeline.data.sample_ids import find_samples
from pipeline.labels.reader import StoreReader


def need_same(first: StoreReader, other: StoreReader) -> None:
    """Raises StoreError unless the labels of one store are those that the other would hold, so that
    they may be merged.
    """
    pairs = {
        "teacher": (first.manifest.teacher, other.manifest.teacher),
        "encoding": (first.manifest.encoding, other.manifest.encoding),
        "temperature": (first.manifest.temperature, other.manifest.temperature),
        "temperatures": (first.manifest.temperatures, other.manifest.temperatures),
        "views": (first.manifest.views, other.manifest.views),
        "class names": (first.manifest.class_names, other.manifest.class_names),
    }
    for name, (mine, its) in pairs.items():
        if mine != its:
            raise StoreError(other.location, f"{name} {its}", expected=f"{mine} ({first.location})")
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
    pairs = {
        "class names": (mine.class_names, its.class_names),
        "temperature": (mine.temperature, its.temperature),
        "views": (mine.views, its.views),
        "view numbers": (mine.view_numbers, its.view_numbers),
    }
    for name, (wanted, found) in pairs.items():
        if wanted != found:
            raise StoreError(other.location, f"{name} {found}", expected=f"{wanted} ({first.location})")
    if lost := int((find_samples(first.sample_ids, other.sample_ids) < 0).sum()):
        found_ids = f"has no label for {lost} of {mine.num_samples} samples of {first.location}"
        raise StoreError(other.location, found_ids, expected="the same samples")
    _need_same_blocks(first, other)


def _need_same_blocks(first: StoreReader, other: StoreReader) -> None:
    """Raises StoreError where views are mixed of two images and the stores have other blocks, which
    the second image comes from.
    """
    if not first.views.mixes:
        return
    if first.manifest.block_samples != other.manifest.block_samples:
        found, expected = (f"blocks of {store.manifest.block_samples} samples" for store in (other, first))
    elif not np.array_equal(first.sample_ids, other.sample_ids):
        found, expected = "other samples, or in another order", "the same, because its views are mixed of two images"
    else:
        return
    raise StoreError(other.location, found, expected=f"{expected} ({first.location})", fix="dump it for the same data")
