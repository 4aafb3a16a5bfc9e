"""The teacher's labels on their way into stores: every block that some store lacks, computed once
for all of them.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
from jaxtyping import Int64

from pipeline.data.splits import Split
from pipeline.labelling.first_views import MeanPrediction
from pipeline.labelling.groups import group_blocks
from pipeline.labelling.read_ahead import ReadAhead
from pipeline.labelling.target import Logits, Target
from pipeline.labelling.teacher import Teacher, check_finite, compute_logits
from pipeline.labelling.write_behind import WriteBehind
from pipeline.labels.manifest import Block
from pipeline.sharing.claims import Sharing
from pipeline.views.plan import plan_view

_WAIT_SECONDS = 0.5
_KEPT_BYTES = 512 << 20  # of logits that anchors are made of, for the labels that come next


def dump_labels(
    teacher: Teacher,
    split: Split,
    blocks: Sequence[Block],
    targets: Sequence[Target],
    on_labels: Callable[[int], object],
    claims: Sharing | None = None,
) -> None:
    """Runs the teacher once over every block that some store lacks, and writes it to every store
    that lacks it.

    With `claims`, any number of processes do so together: each takes blocks that nobody holds, from
    the first of its own `blocks` on, and waits for those that others hold, in case these die. Where
    nobody can hold any, who meets another's goes on elsewhere. On CUDA, blocks are encoded and
    written while the teacher labels the next ones.

    Where a store has anchors, the first views of some rows are labelled together: their anchors are
    made and written before.

    Args:
        blocks: Those of the same rows one after the other if the split is on disk: its inputs are
            then read once.
    """
    waiting = group_blocks(blocks, max((target.anchor_views for target in targets), default=0))
    ranges = [group.rows for group in waiting]
    with (
        ReadAhead(split, ranges) as ahead,
        WriteBehind(teacher.device, claims.blocks_behind if claims else 0) as behind,
    ):
        labeller = _Labeller(teacher, ahead, behind, targets, on_labels)
        while waiting:
            held_by_others, queue = [], deque(waiting)
            while queue:
                queue.rotate(-claims.skipped(len(queue)) if claims else 0)
                group = queue.popleft()
                # 1. Skip what is written already.
                if all(target.writer.has(block) for block in group.blocks for target in targets):
                    on_labels(group.num_labels)
                    continue
                with ExitStack() as claimed:
                    # 2. Claim the blocks, or come back to them later.
                    names = group.claims(lacks_anchors=bool(labeller.without_anchors(group.rows)))
                    if claims and not all(claimed.enter_context(claims.attempt(name)) for name in names):
                        held_by_others.append(group)
                        continue
                    # 3. Look again: who held the claim until now may have written the blocks, or
                    # published, and what an earlier run wrote may be damaged. The stores must be
                    # looked at first, because publishing moves them away.
                    lacking = {block: lack for block in group.blocks if (lack := labeller.lacking(block))}
                    if lacking and claims and claims.over():
                        return
                    on_labels(len(group.rows) * (len(group.blocks) - len(lacking)))
                    # 4. Label them now, write them now or soon; the claim is kept until then.
                    if lacking:
                        labeller.label(group.rows, lacking, claimed.pop_all())
            # 5. Where others hold all that is left, wait for them to write it, or to die.
            if len(held_by_others) == len(waiting):
                behind.finish()
                time.sleep(_WAIT_SECONDS)
            waiting = held_by_others


class _Labeller:
    """The teacher at work on blocks, and the writing of what it predicts."""

    def __init__(
        self,
        teacher: Teacher,
        inputs: ReadAhead,
        behind: WriteBehind,
        targets: Sequence[Target],
        on_labels: Callable[[int], object],
    ) -> None:
        self._teacher, self._inputs, self._behind = teacher, inputs, behind
        self._targets, self._on_labels = targets, on_labels
        self._first = targets[0].writer  # views and the order of rows are the same in all
        #: Any store that has anchors: those of all are made of the same logits.
        self._anchored = next((target for target in targets if target.anchor_views), targets[0])
        self._coming: set[range] = set()  # whose anchors wait to be written by this very process

    def lacking(self, block: Block) -> list[Target]:
        """Returns the stores that lack a block; its caller is the only one who may write it."""
        return [target for target in self._targets if not target.writer.settle(block)]

    def without_anchors(self, rows: range) -> list[Target]:
        """Returns the stores that want anchors of some rows and have none."""
        if rows in self._coming:
            return []
        return [target for target in self._targets if not target.writer.anchors.has(rows)]

    def label(self, rows: range, lacking: Mapping[Block, Sequence[Target]], claimed: ExitStack) -> None:
        """Has the teacher label blocks of some rows for those stores that lack them.

        Holds the claim until the last of them is written.
        """
        with claimed:
            kept = self._anchor(rows, lacking)
            last = list(lacking)[-1]
            for block, targets in lacking.items():
                logits = kept.pop(block.view, None) or self._ask(rows, block.view, _needed(block, targets))
                write = partial(self._write, block, targets, logits)
                self._behind.add(write, claimed.pop_all() if block == last else ExitStack())

    def _anchor(self, rows: range, lacking: Mapping[Block, Sequence[Target]]) -> dict[int, Logits]:
        """Makes the anchors that some stores lack; returns the logits, by view, that blocks of the
        same rows can be labelled with.

        What does not fit is computed once more, to the same bits.
        """
        wanting = self.without_anchors(rows)
        new = _union([target.without_anchors(rows) for target in wanting])
        first_views = max((target.anchor_views for target in wanting), default=0)
        labelled = {block.view: _needed(block, targets) for block, targets in lacking.items()}
        needed = _union([new, *(some for view, some in labelled.items() if view < first_views)])
        mean, means, kept = MeanPrediction(self._anchored.writer.manifest.temperature), {}, dict[int, Logits]()
        room = _KEPT_BYTES // max(1, 4 * len(needed) * self._first.manifest.num_classes)
        for view in range(first_views) if len(new) else ():
            keep = view in labelled and len(kept) < room
            logits = self._ask(rows, view, needed, counted=keep)
            mean.add(logits.of(new)[:, self._anchored.columns])
            if keep:
                kept[view] = logits
            if any(target.anchor_views == view + 1 for target in wanting):
                means[view + 1] = Logits(new, mean.log_probs())
        if wanting:
            self._coming.add(rows)
            self._behind.add(partial(self._write_anchors, rows, wanting, means, dict(kept)), ExitStack())
        return kept

    def _ask(self, rows: range, view: int, needed: Int64[np.ndarray, " needed"], *, counted: bool = True) -> Logits:
        """Returns the teacher's logits of needed rows, not looked at yet; counts all rows of the
        block as labelled where that is asked for.
        """
        on_labels = self._on_labels if counted else _ignore
        on_labels(len(rows) - len(needed))
        if len(needed) == 0:
            return Logits(needed, torch.empty(0, 0))
        split = self._inputs.holding(rows)
        plan = plan_view(split, self._first.views, view, rows=needed, row_order=self._first.row_order)
        return Logits(needed, compute_logits(self._teacher, plan, on_labels, self._teacher.encodes_on))

    def _write(self, block: Block, targets: Sequence[Target], logits: Logits) -> None:
        """Checks the logits, encodes them and commits the block to each store."""
        self._check(logits, block.view)
        for target in targets:
            target.write(block, logits)

    def _write_anchors(
        self, rows: range, targets: Sequence[Target], means: Mapping[int, Logits], kept: Mapping[int, Logits]
    ) -> None:
        """Checks what anchors are made of, and commits those of some rows to each store."""
        for view, logits in kept.items():
            self._check(logits, view)
        for target in targets:
            mean = means.get(target.anchor_views, Logits(np.empty(0, np.int64), torch.empty(0, 0)))
            self._check(mean, f"0 to {target.anchor_views - 1}")
            target.write_anchors(rows, mean)

    def _check(self, logits: Logits, view: int | str) -> None:
        if len(logits.rows):
            check_finite(logits.values, self._first.sample_ids, view, logits.rows)


def _ignore(count: int) -> None:
    """Does nothing with the number of labels."""


def _needed(block: Block, targets: Iterable[Target]) -> Int64[np.ndarray, " _"]:
    return _union([target.unknown(block) for target in targets])


def _union(parts: Iterable[Int64[np.ndarray, " _"]]) -> Int64[np.ndarray, " _"]:
    return np.unique(np.concatenate([np.empty(0, np.int64), *parts]))
