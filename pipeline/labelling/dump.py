"""What the teacher says of views: writing it into stores, and checking later that they still hold it."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt64

from pipeline.data.splits import Split
from pipeline.labelling.read_ahead import ReadAhead
from pipeline.labelling.takeover import Source, fill_in
from pipeline.labelling.teacher import Teacher, check_finite, label_rows
from pipeline.labelling.workers import Claims
from pipeline.labelling.write_behind import WriteBehind
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.encodings import Codec
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.fields import Labels, encode_logits, measure_labels
from pipeline.labels.manifest import Block
from pipeline.views import ViewSpec

_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Target:
    """A store that is being written, and an earlier one whose labels it takes over where these are the same."""

    writer: StoreWriter
    source: Source | None = None

    def unknown(self, block: Block) -> Int64[np.ndarray, " rows"]:
        """The rows of a block whose labels the teacher must make."""
        rows = np.arange(block.rows.start, block.rows.stop)
        if self.source is None or not self.source.has_view(block.view):
            return rows
        return rows[self.source.rows[rows] < 0]


def dump_labels(
    teacher: Teacher,
    split: Split,
    spec: ViewSpec,
    blocks: Sequence[Block],
    targets: Sequence[Target],
    on_labels: Callable[[int], object],
    claims: Claims | None = None,
    finished: Callable[[], bool] = lambda: False,
) -> None:
    """Runs the teacher once over every block that some store lacks, and writes it to every store that lacks it.

    With `claims`, any number of processes do so together: each takes blocks that nobody holds, from the first of its own
    `blocks` on, and waits for those that others hold, in case these die. `finished` says that another process has
    published the stores meanwhile. On CUDA, blocks are encoded and written while the teacher labels the next ones.

    Args:
        blocks: Of a split on disk those of the same rows one after the other, for which images are then read once.
    """
    waiting = list(blocks)
    with ReadAhead(split, [block.rows for block in blocks]) as ahead, WriteBehind(teacher.device) as behind:
        while waiting:
            held_by_others = []
            for block in waiting:
                if all(target.writer.has(block) for target in targets):
                    on_labels(len(block.rows))
                    continue
                with ExitStack() as claimed:
                    if claims and not claimed.enter_context(claims.attempt(f"{block.view}-{block.rows.start}")):
                        held_by_others.append(block)
                        continue
                    lacking = [target for target in targets if not target.writer.has(block)]
                    if not lacking:
                        on_labels(len(block.rows))
                        continue
                    if claims and finished():  # in this order
                        return
                    behind.add(_label_block(teacher, ahead, spec, block, lacking, on_labels), claimed.pop_all())
            if len(held_by_others) == len(waiting):
                behind.finish()
                time.sleep(_WAIT_SECONDS)
            waiting = held_by_others


def _label_block(
    teacher: Teacher,
    images: ReadAhead,
    spec: ViewSpec,
    block: Block,
    lacking: Sequence[Target],
    on_labels: Callable[[int], object],
) -> Callable[[], None]:
    """Has the teacher label what some stores lack of a block; what is called to write it there."""
    order = lacking[0].writer.row_order  # the same in all
    needed = np.unique(np.concatenate([target.unknown(block) for target in lacking]))
    on_labels(len(block.rows) - len(needed))
    logits = torch.empty(0, 0)
    if len(needed):
        split = images.holding(block.rows)
        logits = label_rows(teacher, split, spec, block.view, needed, on_labels, order, later=True)

    def write() -> None:
        if len(needed):
            check_finite(logits, order.sample_ids, block.view, needed)
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
    """Labels, on the CPU, and how far they are from the logits: computed where these are."""
    labels = encode_logits(codec, logits, sample_ids, view)
    there = {name: values.to(logits.device) for name, values in labels.items()}
    return labels, measure_labels(codec, logits, there)


def _complete(
    target: Target, block: Block, unknown: np.ndarray, logits: torch.Tensor
) -> tuple[Labels, Fidelity | None]:
    """A block's labels, some or all of them taken over, and the fidelity of the new ones."""
    assert target.source is not None, "otherwise every label is unknown"
    labels: Labels = {}
    rows = np.arange(block.rows.start, block.rows.stop)
    known = np.setdiff1d(rows, unknown)
    count = len(rows)
    fill_in(labels, count, known - block.rows.start, target.source.labels(block.view, target.source.rows[known]))
    if len(unknown) == 0:
        return labels, target.source.block_fidelity(block)
    new, fidelity = labels_of(target.writer.codec, logits, target.writer.sample_ids[unknown], block.view)
    fill_in(labels, count, unknown - block.rows.start, new)
    return labels, fidelity
