"""Checks and repairs of a finished store, with the teacher at hand."""

from typing import Any

import numpy as np
import torch

from pipeline.data.sample_ids import find_samples
from pipeline.data.splits import Split
from pipeline.labelling.dump import labels_of
from pipeline.labelling.teacher import Teacher, check_finite, label_rows, random_rows
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.fields import gather
from pipeline.labels.manifest import Block
from pipeline.labels.reader import StoreReader


def repair_block(teacher: Teacher, split: Split, store: StoreReader, block: Block) -> bool:
    """Labels one block again and puts it in its place; whether it is, bit for bit, what was there.

    The split must have the block's samples, in any order.
    """
    sample_ids = store.sample_ids[block.rows.start : block.rows.stop]
    rows = find_samples(sample_ids, split.sample_ids)
    teacher = teacher.in_precision(store.manifest.teacher_precision)
    logits = label_rows(teacher, split, store.views, block.view, rows, row_order=store.row_order, later=True)
    check_finite(logits, split.sample_ids, block.view, rows)
    return store.replace_block(block, *labels_of(store.codec, logits, sample_ids, block.view))


def recompute_fidelity(
    teacher: Teacher, split: Split, store: StoreReader, num_labels: int, seed: int
) -> dict[str, Any]:
    """How well stored labels match what the teacher says now, on about `num_labels` of them: as `Fidelity.summary`."""
    manifest = store.manifest
    teacher = teacher.in_precision(manifest.teacher_precision)
    split_rows = find_samples(store.sample_ids, split.sample_ids)
    parts = []
    per_view = -(-num_labels // manifest.num_views)
    for index, view in enumerate(manifest.view_numbers):
        rows = np.unique(random_rows(seed, view, per_view, manifest.num_samples))
        rows = rows[split_rows[rows] >= 0]
        if len(rows) == 0:
            continue
        logits = label_rows(teacher, split, store.views, view, split_rows[rows], row_order=store.row_order)
        labels = gather(store.read_view(index), rows)
        exact = {t: torch.log_softmax(logits.double() / t, dim=1) for t in store.codec_temperatures}
        parts.append(Fidelity.of(exact, {t: store.decode(labels, t) for t in store.codec_temperatures}))
    return Fidelity.merge(parts).summary()
