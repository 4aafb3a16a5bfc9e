"""A store whose labels are copied from others."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.core.errors import StoreError
from pipeline.data.sample_ids import find_samples
from pipeline.labelling.derive.base import Destination
from pipeline.labelling.takeover import EarlierStore, copied_anchors, copied_labels
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import Canaries
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader


def assemble(sources: Sequence[EarlierStore], manifest: Manifest, ids: np.ndarray, to: Destination) -> Manifest:
    """Writes a store whose labels and anchors are copied, each from the first source that has it.

    Raises StoreError where sources have other anchors of the same sample.

    Args:
        manifest: A source's, with the views of the new store.
        ids: The samples of the new store, which the sources were opened with.
    """
    stores = [source.store for source in sources]
    manifest = unfinished(manifest, num_samples=len(ids), block_samples=min(manifest.block_samples, len(ids)))
    canaries = _canaries_of(stores, manifest, ids)
    blocks = manifest.blocks()
    first = {block: next(source for source in sources if source.has_some(block)) for block in blocks}
    inherited: list[Fidelity] = []
    for source in sources:
        known = [block for block in blocks if first[block] is source]
        inherited.extend(source.other_fidelity(manifest.view_numbers, known))
    writer = StoreWriter(to.store, to.records, manifest, ids, canaries, stores[0].tables)
    for rows in manifest.ranges():
        if not writer.anchors.has(rows):
            writer.anchors.write(rows, copied_anchors(sources, rows))
    for block in blocks:
        if not writer.settle(block):
            writer.write_labels(block, copied_labels(sources, block), first[block].block_fidelity(block))
        to.on_labels(len(block.rows))
    return writer.finish(inherited)


def _canaries_of(stores: Sequence[StoreReader], manifest: Manifest, ids: np.ndarray) -> Canaries:
    """Returns the canaries whose view and sample a new store has; raises StoreError where none is
    left.
    """
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


def unfinished(manifest: Manifest, **changes: Any) -> Manifest:
    """Returns a store's manifest with changes, as it is before the first label is written."""
    finished: dict[str, Any] = {
        "fidelity": None,
        "label_bytes": None,
        "table_bytes": None,
        "anchor_bytes": None,
        "arrays_digest": None,
    }
    return replace(manifest, **finished, complete=False, fingerprint="", **changes)
