"""The teacher's labels on their way into stores: every block that some store lacks, computed once
for all of them.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt64

from pipeline.data.splits import Split
from pipeline.labelling.read_ahead import ReadAhead
from pipeline.labelling.takeover import EarlierStore, fill_in
from pipeline.labelling.teacher import Teacher, check_finite, compute_logits
from pipeline.labelling.workers import Claims
from pipeline.labelling.write_behind import WriteBehind
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.encodings import Codec
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.fields import Labels, encode_logits, measure_labels
from pipeline.labels.manifest import Block, Manifest
from pipeline.views.plan import plan_view

_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Target:
    """A store that is being written, and an earlier one whose labels it takes over where these are
    the same.
    """

    writer: StoreWriter
    source: EarlierStore | None = None

    def unknown(self, block: Block) -> Int64[np.ndarray, " rows"]:
        """Returns the rows of a block whose labels the teacher must make."""
        rows = np.arange(block.rows.start, block.rows.stop)
        if self.source is None or not self.source.has_view(block.view):
            return rows
        return rows[self.source.rows[rows] < 0]

    def finish(self) -> Manifest:
        """Finishes the store; labels that were taken over keep the fidelity that was measured when
        they were made.
        """
        manifest = self.writer.manifest
        if self.source is None:
            return self.writer.finish()
        return self.writer.finish(self.source.other_fidelity(manifest.view_numbers, manifest.blocks()))


def dump_labels(
    teacher: Teacher,
    split: Split,
    blocks: Sequence[Block],
    targets: Sequence[Target],
    on_labels: Callable[[int], object],
    claims: Claims | None = None,
) -> None:
    """Runs the teacher once over every block that some store lacks, and writes it to every store
    that lacks it.

    With `claims`, any number of processes do so together: each takes blocks that nobody holds, from
    the first of its own `blocks` on, and waits for those that others hold, in case these die. On
    CUDA, blocks are encoded and written while the teacher labels the next ones.

    Args:
        blocks: Those of the same rows one after the other if the split is on disk: its inputs are
            then read once.
    """
    waiting = list(blocks)
    with ReadAhead(split, [block.rows for block in blocks]) as ahead, WriteBehind(teacher.device) as behind:
        while waiting:
            held_by_others = []
            for block in waiting:
                # 1. Skip what is written already.
                if all(target.writer.has(block) for target in targets):
                    on_labels(len(block.rows))
                    continue
                with ExitStack() as claimed:
                    # 2. Claim the block, or come back to it later.
                    if claims and not claimed.enter_context(claims.attempt(f"{block.view}-{block.rows.start}")):
                        held_by_others.append(block)
                        continue
                    # 3. Look again: who held the claim until now may have written the block, or
                    # published, and what an earlier run wrote may be damaged. The stores must be
                    # looked at first, because publishing moves them away.
                    lacking = [target for target in targets if not target.writer.settle(block)]
                    if not lacking:
                        on_labels(len(block.rows))
                        continue
                    if claims and claims.over():
                        return
                    # 4. Label it now, write it now or soon; the claim is kept until it is written.
                    behind.add(_label_block(teacher, ahead, block, lacking, on_labels), claimed.pop_all())
            # 5. Where others hold all that is left, wait for them to write it, or to die.
            if len(held_by_others) == len(waiting):
                behind.finish()
                time.sleep(_WAIT_SECONDS)
            waiting = held_by_others


def _label_block(
    teacher: Teacher,
    inputs: ReadAhead,
    block: Block,
    lacking: Sequence[Target],
    on_labels: Callable[[int], object],
) -> Callable[[], None]:
    """Has the teacher label what some stores lack of a block; returns the call that writes it
    there.
    """
    first = lacking[0].writer  # views and the order of rows are the same in all
    needed = np.unique(np.concatenate([target.unknown(block) for target in lacking]))
    on_labels(len(block.rows) - len(needed))
    logits = torch.empty(0, 0)
    if len(needed):
        split = inputs.holding(block.rows)
        plan = plan_view(split, first.views, block.view, rows=needed, row_order=first.row_order)
        logits = compute_logits(teacher, plan, on_labels, teacher.encodes_on)

    def write() -> None:
        """Checks the logits, encodes them and commits the block to each store."""
        if len(needed):
            check_finite(logits, first.sample_ids, block.view, needed)
        for target in lacking:
            _write_block(target, block, needed, logits)

    return write


def _write_block(
    target: Target, block: Block, needed: Int64[np.ndarray, " needed"], logits: Float[torch.Tensor, "_ classes"]
) -> None:
    """Commits a block to a store; the logits are those of the `needed` rows."""
    unknown = target.unknown(block)
    own = logits if len(unknown) == len(needed) else logits[torch.from_numpy(np.isin(needed, unknown))]
    if len(unknown) == len(block.rows):
        labels, fidelity = labels_of(target.writer.codec, own, target.writer.sample_ids[unknown], block.view)
        target.writer.write_labels(block, labels, fidelity)
    else:
        target.writer.write_labels(block, *_complete(target, block, unknown, own))


def labels_of(
    codec: Codec, logits: Float[torch.Tensor, "rows classes"], sample_ids: UInt64[np.ndarray, " rows"], view: int
) -> tuple[Labels, Fidelity]:
    """Returns labels, on the CPU, and how far they are from the logits: measured on the device of
    the logits.
    """
    labels = encode_logits(codec, logits, sample_ids, view)
    there = {name: values.to(logits.device) for name, values in labels.items()}
    return labels, measure_labels(codec, logits, there)


def _complete(
    target: Target, block: Block, unknown: np.ndarray, logits: torch.Tensor
) -> tuple[Labels, Fidelity | None]:
    """Returns a block's labels, with those taken over, and the fidelity of the new ones."""
    assert target.source is not None, "otherwise every label is unknown"
    labels: Labels = {}
    rows = np.arange(block.rows.start, block.rows.stop)
    known = np.setdiff1d(rows, unknown)
    count = len(rows)
    # 1. Copy the labels that the earlier store has, with their fidelity if the block is all of it.
    fill_in(labels, count, known - block.rows.start, target.source.labels(block.view, target.source.rows[known]))
    if len(unknown) == 0:
        return labels, target.source.block_fidelity(block)
    # 2. Put the new ones between them.
    new, fidelity = labels_of(target.writer.codec, logits, target.writer.sample_ids[unknown], block.view)
    fill_in(labels, count, unknown - block.rows.start, new)
    return labels, fidelity
