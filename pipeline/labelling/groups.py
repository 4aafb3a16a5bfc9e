"""Blocks that one worker labels together."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.labels.manifest import Block


@dataclass(frozen=True)
class Group:
    """A group of blocks of the same rows under one claim: the first views, of which anchors are
    made, or one other view.

    Attributes:
        makes_anchors: Whether these are the first views.
    """

    blocks: Sequence[Block]
    makes_anchors: bool

    @property
    def rows(self) -> range:
        """The rows of each of the blocks."""
        return self.blocks[0].rows

    @property
    def num_labels(self) -> int:
        """The number of labels of all blocks."""
        return len(self.rows) * len(self.blocks)

    def claims(self, *, lacks_anchors: bool) -> list[str]:
        """Returns the names that who works on it must hold."""
        own, anchors = f"{self.blocks[0].view}-{self.rows.start}", f"anchors-{self.rows.start}"
        if self.makes_anchors:
            return [anchors]
        return [own, anchors] if lacks_anchors else [own]


def group_blocks(blocks: Sequence[Block], first_views: int) -> list[Group]:
    """Returns the blocks in groups, in their order; but the first views of some rows come together,
    before any other block of these rows.

    Args:
        first_views: The number of views that anchors are made of; 0 leaves each block alone.
    """
    together: dict[range, list[Block]] = {}
    for block in blocks:
        if block.view < first_views:
            together.setdefault(block.rows, []).append(block)
    groups = []
    for block in blocks:
        if block.rows in together:
            groups.append(Group(together.pop(block.rows), makes_anchors=True))
        if block.view >= first_views:
            groups.append(Group([block], makes_anchors=False))
    return groups
