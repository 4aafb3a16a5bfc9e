"""Blocks that one worker labels together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.labels.manifest import Block


@dataclass(frozen=True)
class Group:
    """Blocks of the same rows under one claim: the first views, of which anchors are made, or one
    other view.

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


def group_blocks(blocks: Iterable[Block], first_views: int) -> list[Group]:
    """Returns the blocks in groups, each in the place of the first of its blocks.

    Args:
        first_views: The number of views that anchors are made of; 0 leaves each block alone.
    """
    groups: dict[tuple[range, int], list[Block]] = {}
    for block in blocks:
        groups.setdefault((block.rows, max(block.view, first_views - 1)), []).append(block)
    return [Group(some, makes_anchors=some[0].view < first_views) for some in groups.values()]
