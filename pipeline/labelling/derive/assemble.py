"""A store whose labels are copied from others."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.core.errors import StoreError
from pipeline.labelling.derive.base import Destination
from pipeline.labelling.takeover import EarlierStore, copied_anchors, copied_labels
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import Canaries
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.manifest import VERSION, Manifest
from pipeline.labels.reader import StoreReader
from pipeline.labels.samples import StoredSamples


def assemble(sources: Sequence[EarlierStore], manifest: Manifest, samples: StoredSamples, to: Destination) -> Manifest:
    """Writes a store whose labels and anchors are copied, each from the first source that has it.

    Raises StoreError where sources have other anchors of the same sample.

    Args:
        manifest: A source's, with the views of the new store.
        samples: Those of the new store, which the sources were opened with.
    """
    stores = [source.store for source in sources]
    manifest = unfinished(manifest, num_samples=len(samples), block_samples=min(manifest.block_samples, len(samples)))
    canaries = _canaries_of(stores, manifest, samples)
    blocks = manifest.blocks()
    first = {block: next(source for source in sources if source.has_some(block)) for block in blocks}
    inherited: list[Fidelity] = []
    for source in sources:
        known = [block for block in blocks if first[block] is source]
        inherited.extend(source.other_fidelity(manifest.view_numbers, known))
    writer = StoreWriter(to.store, to.records, manifest, samples, canaries, stores[0].tables)
    for rows in manifest.ranges():
        if not writer.anchors.has(rows):
            writer.anchors.write(rows, copied_anchors(sources, rows))
    for block in blocks:
        if not writer.settle(block):
            writer.write_labels(block, copied_labels(sources, block), first[block].block_fidelity(block))
        to.on_labels(len(block.rows))
    return writer.finish(inherited)


def _canaries_of(stores: Sequence[StoreReader], manifest: Manifest, samples: StoredSamples) -> Canaries:
    """Returns the canaries whose view and sample a new store has; raises StoreError where none is
    left.

    Where some are points and others the thumbnails of format 1, the points alone.
    """
    kept = []
    for canaries in (store.canaries for store in stores):
        there = samples.find(StoredSamples.of(canaries.sample_ids)) >= 0
        kept.append(canaries.take(there & np.isin(canaries.views, manifest.view_numbers)))
    as_points = any(canaries.are_points and len(canaries.views) for canaries in kept)
    kept = [canaries for canaries in kept if canaries.are_points == as_points] or kept
    together = Canaries(
        *(np.concatenate([getattr(c, name) for c in kept]) for name in ("sample_ids", "views", "rendered"))
    )
    if len(together.views) == 0:
        raise StoreError(
            stores[0].location, "none of its canaries is among these views and samples", expected="more of them"
        )
    return together


def unfinished(manifest: Manifest, **changes: Any) -> Manifest:
    """Returns a store's manifest with changes, as it is before the first label is written."""
    finished: dict[str, Any] = {
        "fidelity": None,
        "label_bytes": None,
        "table_bytes": None,
        "anchor_bytes": None,
        "arrays_digest": None,
    }
    return replace(manifest, **finished, complete=False, fingerprint="", version=VERSION, **changes)
