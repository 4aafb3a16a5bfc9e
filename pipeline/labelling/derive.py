"""Stores made from stores, without a teacher: subsets, merges and averages."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt64

from pipeline.core.errors import ConfigError, StoreError
from pipeline.data.sample_ids import find_samples
from pipeline.labelling.takeover import EarlierStore, copied_labels
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import Canaries
from pipeline.labels.encodings import Encoding
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader


def subset(
    store: StoreReader,
    out: Path,
    records: Path,
    *,
    views: Sequence[int] | None = None,
    sample_ids: UInt64[np.ndarray, " samples"] | None = None,
    on_labels: Callable[[int], object] = lambda count: None,
) -> Manifest:
    """Some views (numbers) of some samples of a store as a store of its own.

    Its fidelity is that of the chosen views over all samples that the store was dumped for.
    """
    manifest = store.manifest
    views = list(manifest.view_numbers if views is None else views)
    ids = store.sample_ids if sample_ids is None else sample_ids
    _need_views(store, views)
    source = EarlierStore(store, ids)
    if lost := int((source.rows < 0).sum()):
        raise StoreError(
            store.location, f"has no label for {lost} of {len(ids)} samples", expected="samples of this store"
        )
    if store.views.mixes and not np.array_equal(ids, store.sample_ids):
        raise StoreError(
            store.location,
            "its views are mixed of two images, and some of its samples would lack the other one",
            expected="all of its samples in their order",
            fix="choose among its views alone",
        )
    return _assemble([source], out, records, replace(manifest, view_numbers=views), ids, on_labels)


def merge(
    stores: Sequence[StoreReader], out: Path, records: Path, on_labels: Callable[[int], object] = lambda count: None
) -> Manifest:
    """All views of all samples of several stores of one teacher, encoding and ViewSpec; the first that has a label wins.

    Raises StoreError where they differ in what decides a label, or where a view of a sample is in none of them.
    """
    first = stores[0]
    for other in stores[1:]:
        _need_same(first, other)
    views = sorted({view for store in stores for view in store.manifest.view_numbers})
    ids = first.sample_ids
    if not first.views.mixes:  # then samples, and repeated ones, are the same in all, and stay where they are
        ids = np.concatenate([store.sample_ids for store in stores])
        _, places = np.unique(ids, return_index=True)
        ids = ids[np.sort(places)]
    sources = [EarlierStore(store, ids) for store in stores]
    for view in views:
        here = np.zeros(len(ids), dtype=bool)
        for source in sources:
            here |= (source.rows >= 0) & source.has_view(view)
        if not here.all():
            found = f"view {view} of {int((~here).sum())} of {len(ids)} samples is in none of the stores"
            raise StoreError(
                first.location, found, expected="every view of every sample", fix="dump these, or take a subset first"
            )
    return _assemble(sources, out, records, replace(first.manifest, view_numbers=views), ids, on_labels)


def average(
    stores: Sequence[StoreReader],
    weights: Sequence[float],
    encoding: Encoding,
    out: Path,
    records: Path,
    *,
    num_pilot: int,
    on_labels: Callable[[int], object] = lambda count: None,
) -> Manifest:
    """The weighted mean of several teachers' probabilities at the stored temperature, encoded anew.

    Fidelity is measured against the mean of the labels as they are stored. Raises StoreError where the stores differ
    in classes, stored temperature, views or samples.
    """
    if len(weights) != len(stores) or not all(0 < weight < math.inf for weight in weights):
        raise ConfigError("weights", f"{list(weights)}", expected=f"{len(stores)} positive numbers, one for each store")
    first = stores[0]
    for other in stores[1:]:
        _need_alike(first, other)
    ids = first.sample_ids
    sources = [EarlierStore(store, ids) for store in stores]
    shares = [weight / sum(weights) for weight in weights]
    teachers = [
        {"weight": share, "teacher": store.manifest.teacher} for share, store in zip(shares, stores, strict=True)
    ]
    manifest = _unfinished(first.manifest, encoding=encoding.to_dict(), teacher={"mean_of": teachers})
    encoding.check(manifest.space, str(out))

    def mean(view: int, rows: np.ndarray) -> torch.Tensor:
        parts = [
            np.log(share) + source.store.decode(source.labels(view, source.rows[rows]), manifest.temperature).double()
            for share, source in zip(shares, sources, strict=True)
        ]
        return torch.logsumexp(torch.stack(parts), dim=0).float()

    chosen = np.linspace(0, len(ids) - 1, min(num_pilot, len(ids))).astype(np.int64)
    tables = encoding.learn(mean(manifest.view_numbers[0], chosen), manifest.space)
    writer = StoreWriter(out, records, manifest, ids, first.canaries, tables)
    for block in manifest.blocks():
        if not writer.has(block):
            log_probs = mean(block.view, np.arange(block.rows.start, block.rows.stop))
            writer.write(block, log_probs * manifest.temperature)
        on_labels(len(block.rows))
    return writer.finish()


def _assemble(
    sources: Sequence[EarlierStore],
    out: Path,
    records: Path,
    manifest: Manifest,
    ids: np.ndarray,
    on_labels: Callable[[int], object],
) -> Manifest:
    """A store whose labels are copied from others, the first that has each."""
    stores = [source.store for source in sources]
    manifest = _unfinished(manifest, num_samples=len(ids), block_samples=min(manifest.block_samples, len(ids)))
    canaries = _canaries_of(stores, manifest, ids)
    blocks = manifest.blocks()
    first = {block: next(source for source in sources if source.has_some(block)) for block in blocks}
    inherited: list[Fidelity] = []
    for source in sources:
        known = [block for block in blocks if first[block] is source]
        inherited.extend(source.other_fidelity(manifest.view_numbers, known))
    writer = StoreWriter(out, records, manifest, ids, canaries, stores[0].tables)
    for block in blocks:
        if not writer.has(block):
            writer.write_labels(block, copied_labels(sources, block), first[block].block_fidelity(block))
        on_labels(len(block.rows))
    return writer.finish(inherited)


def _canaries_of(stores: Sequence[StoreReader], manifest: Manifest, ids: np.ndarray) -> Canaries:
    """The canaries whose view and image a new store has; raises StoreError where none is left."""
    kept = []
    for canaries in (store.canaries for store in stores):
        here = (find_samples(canaries.sample_ids, ids) >= 0) & np.isin(canaries.views, manifest.view_numbers)
        kept.append(Canaries(canaries.sample_ids[here], canaries.views[here], canaries.rendered[here]))
    together = Canaries(
        *(np.concatenate([getattr(c, name) for c in kept]) for name in ("sample_ids", "views", "rendered"))
    )
    if len(together.views) == 0:
        raise StoreError(
            stores[0].location, "none of its canaries is among these views and samples", expected="more of them"
        )
    return together


def _unfinished(manifest: Manifest, **changes: Any) -> Manifest:
    finished: dict[str, Any] = {"fidelity": None, "label_bytes": None, "table_bytes": None, "arrays_digest": None}
    return replace(manifest, **finished, complete=False, fingerprint="", **changes)


def _need_views(store: StoreReader, views: Sequence[int]) -> None:
    there = store.manifest.view_numbers
    if not views or len(set(views)) < len(views) or not set(views) <= set(there):
        raise StoreError(store.location, f"views {list(views)} asked for", expected=f"some of {there}, each once")


def _need_same(first: StoreReader, other: StoreReader) -> None:
    """Stores that may be merged: labels of one are what the other would hold."""
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


def _need_alike(first: StoreReader, other: StoreReader) -> None:
    """Stores whose teachers may be averaged: they speak of the same views in the same classes."""
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
    """Where views are mixed of two images, these are the same in both stores: they were chosen from the same blocks."""
    if not first.views.mixes:
        return
    if first.manifest.block_samples != other.manifest.block_samples:
        found, expected = (f"blocks of {store.manifest.block_samples} samples" for store in (other, first))
    elif not np.array_equal(first.sample_ids, other.sample_ids):
        found, expected = "other samples, or in another order", "the same, because its views are mixed of two images"
    else:
        return
    raise StoreError(other.location, found, expected=f"{expected} ({first.location})", fix="dump it for the same data")
