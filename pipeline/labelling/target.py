"""A store that a dump writes, and what it lacks."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int64

from pipeline.labelling.first_views import make_anchors
from pipeline.labelling.takeover import EarlierStore, fill_in
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.fields import Labels
from pipeline.labels.manifest import Block, Manifest


@dataclass(frozen=True)
class Logits:
    """The teacher's outputs for one view of some rows of a store, or their mean over several."""

    rows: Int64[np.ndarray, " rows"]
    values: Float[torch.Tensor, "rows classes *grid"]

    def of(self, rows: Int64[np.ndarray, " some"]) -> Float[torch.Tensor, "some classes *grid"]:
        """Returns those of some of the rows."""
        if len(rows) == len(self.rows):
            return self.values
        return self.values[torch.from_numpy(np.isin(self.rows, rows))]


@dataclass(frozen=True)
class Target:
    """A store that is being written, and an earlier one whose labels and anchors it takes over
    where these are the same.

    Attributes:
        columns: Those of the teacher's outputs that it holds.
    """

    writer: StoreWriter
    source: EarlierStore | None = None
    columns: slice = field(default_factory=lambda: slice(None), compare=False)

    @property
    def anchor_views(self) -> int:
        """The number of views that its anchors are made of; 0 where it has none."""
        return self.writer.encoding.anchor_views

    def unknown(self, block: Block) -> Int64[np.ndarray, " rows"]:
        """Returns the rows of a block whose labels the teacher must make."""
        if self.source is None or not self.source.has_view(block.view):
            return np.arange(block.rows.start, block.rows.stop)
        return self.without_anchors(block.rows)

    def without_anchors(self, rows: range) -> Int64[np.ndarray, " rows"]:
        """Returns those of some rows whose anchors the teacher must make."""
        numbers = np.arange(rows.start, rows.stop)
        return numbers if self.source is None else numbers[self.source.rows[numbers] < 0]

    def write(self, block: Block, logits: Logits) -> None:
        """Commits a block: its unknown labels are made of the logits, and the others taken over."""
        unknown = self.unknown(block)
        own = logits.of(unknown)[:, self.columns]
        if len(unknown) == len(block.rows):
            self.writer.write_labels(block, *self.writer.labels_of(block, own, unknown))
        else:
            self.writer.write_labels(block, *self._complete(block, unknown, own))

    def write_anchors(self, rows: range, mean: Logits) -> None:
        """Commits the anchors of some rows: new ones are made of the mean predictions, and the
        others taken over.
        """
        anchors: Labels = {}
        new = self.without_anchors(rows)
        known = np.setdiff1d(np.arange(rows.start, rows.stop), new)
        if self.source is not None and len(known):
            fill_in(anchors, len(rows), known - rows.start, self.source.anchors(self.source.rows[known]))
        if len(new):
            fill_in(anchors, len(rows), new - rows.start, make_anchors(self.writer.codec, mean.of(new)))
        self.writer.anchors.write(rows, anchors)

    def finish(self) -> Manifest:
        """Finishes the store; labels that were taken over keep the fidelity that was measured when
        they were made.
        """
        manifest = self.writer.manifest
        if self.source is None:
            return self.writer.finish()
        return self.writer.finish(self.source.other_fidelity(manifest.view_numbers, manifest.blocks()))

    def _complete(
        self, block: Block, unknown: Int64[np.ndarray, " unknown"], logits: Float[torch.Tensor, "unknown classes *grid"]
    ) -> tuple[Labels, Fidelity | None]:
        """Returns a block's labels, with those taken over, and the fidelity of the new ones."""
        assert self.source is not None, "otherwise every label is unknown"
        labels: Labels = {}
        rows = np.arange(block.rows.start, block.rows.stop)
        known = np.setdiff1d(rows, unknown)
        count = len(rows)
        # 1. Copy the labels that the earlier store has, with their fidelity if the block is all of
        # it.
        fill_in(labels, count, known - block.rows.start, self.source.labels(block.view, self.source.rows[known]))
        if len(unknown) == 0:
            return labels, self.source.block_fidelity(block)
        # 2. Put the new ones between them.
        new, fidelity = self.writer.labels_of(block, logits, unknown)
        fill_in(labels, count, unknown - block.rows.start, new)
        return labels, fidelity
