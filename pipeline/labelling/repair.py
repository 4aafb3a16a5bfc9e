"""The repair of a finished store: the teacher labels broken blocks again, and only these."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from pipeline.core.errors import StoreError
from pipeline.core.remedies import Remedies
from pipeline.data.splits import Split
from pipeline.labelling.first_views import MeanPrediction, make_anchors
from pipeline.labelling.teacher import Teacher, check_finite, compute_logits
from pipeline.labels.canaries import check_canaries
from pipeline.labels.fields import as_slice, labels_of
from pipeline.labels.manifest import AnchorBlock, Block, Part
from pipeline.labels.reader import StoreReader
from pipeline.views.plan import plan_view


def broken_blocks(place: Path | str) -> list[Part]:
    """Returns the blocks that can't be read, of anchors first; raises StoreError where more is
    damaged: what lies beside labels no teacher can make again.
    """
    store = StoreReader(place, Remedies.of_stage("dump_labels"))
    store.check_whole()
    return [block for block, fault in store.check() if fault]


def repair_store(
    store: StoreReader, blocks: Sequence[Part], teacher: Teacher, split: Split, teacher_now: str
) -> Iterator[tuple[Part, bool]]:
    """Repairs some blocks; yields each with whether it is, bit for bit, what was there.

    Where anchors are not, the labels that stand on them are made again, too.

    Raises StoreError where the labels would not be those that were there: another teacher, views or
    data.

    Args:
        teacher_now: The fingerprint of the teacher.
    """
    stored = (store.manifest.teacher or {}).get("fingerprint")
    if stored != teacher_now:
        expected = f"the teacher that wrote it, {stored}" if stored else "a store of one teacher"
        fix = "make it again from the stores that it was made of" if stored is None else "run `dvc repro dump_labels`"
        raise StoreError(store.location, f"can't be repaired by teacher {teacher_now}", expected=expected, fix=fix)
    check_canaries(store.canaries, split, store.views, store.location, store.row_order(split))
    waiting = list(blocks)
    for block in waiting:
        lost = int((store.rows_in(split, as_slice(block.rows)) < 0).sum())
        if lost:
            found = f"block {block.name} is of {lost} samples that are not in this data"
            raise StoreError(store.location, found, expected="the data that it was dumped for")
        if isinstance(block, Block):
            yield block, repair_block(teacher, split, store, block)
            continue
        same = repair_anchors(teacher, split, store, block)
        if not same:
            standing = [other for other in store.manifest.blocks() if other.rows == block.rows]
            waiting += [other for other in standing if other not in waiting]
        yield block, same


def repair_block(teacher: Teacher, split: Split, store: StoreReader, block: Block) -> bool:
    """Has the teacher label one block again and puts it in its place; returns whether it is, bit
    for bit, what was there.

    The split must have the block's samples, in any order.
    """
    logits = _logits(teacher, split, store, block.rows, block.view)
    sample_ids = split.sample_ids[store.rows_in(split, as_slice(block.rows))]
    anchors = store.read_anchors(block.rows)
    return store.replace_block(block, *labels_of(store.codec, logits, sample_ids, block.view, anchors))


def repair_anchors(teacher: Teacher, split: Split, store: StoreReader, block: AnchorBlock) -> bool:
    """Has the teacher predict the first views again, of which anchors are made; as `repair_block`
    does with labels.
    """
    mean = MeanPrediction(store.manifest.temperature)
    for view in range(store.encoding.anchor_views):
        mean.add(_logits(teacher, split, store, block.rows, view))
    return store.replace_anchors(block, make_anchors(store.codec, mean.log_probs()))


def _logits(teacher: Teacher, split: Split, store: StoreReader, rows: range, view: int) -> torch.Tensor:
    """Returns the teacher's finite logits for some rows, computed as they were for the store."""
    here = store.rows_in(split, as_slice(rows))
    teacher = teacher.giving(store.manifest.signal).in_precision(store.manifest.teacher_precision)
    plan = plan_view(split, store.views, view, rows=here, row_order=store.row_order(split))
    logits = compute_logits(teacher, plan, left_on=teacher.encodes_on)
    check_finite(logits, split.sample_ids, view, here)
    return logits[:, teacher.columns(store.manifest.signal)]
