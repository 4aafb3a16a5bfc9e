"""Soft targets at some positions of a grid, and a network's outputs at the same ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Integer

from pipeline.labels.targets import SparseTargets

Index = Int64[torch.Tensor, "labels positions"]


def in_cells(values: Float[torch.Tensor, "labels classes height width"], stride: int) -> Float[torch.Tensor, "_ _ _"]:
    """Returns the mean of each square cell, row by row: [labels, classes, cells].

    Sides are multiples of `stride`.
    """
    return (F.avg_pool2d(values, stride) if stride > 1 else values).flatten(2)


def at_index(
    values: Float[torch.Tensor, "labels classes height width"], index: Index
) -> Float[torch.Tensor, "labels classes positions"]:
    """Returns the values at positions that are numbered row by row, of each label its own."""
    return values.flatten(2).gather(2, index[:, None].expand(-1, values.shape[1], -1))


@dataclass(frozen=True)
class PositionTargets:
    """The soft targets of positions: of each label all cells of a grid, or some that were drawn.

    Attributes:
        rows: Targets of the positions of the first label, then of the second, and so on.
        num_positions: Of a label.
        stride: The side of the cells, whose mean logits a target is of.
        index: The drawn positions of each label; None: targets are of cells.
        shares: What each drawn position counts in a label's mean; their sum is 1.
    """

    rows: Float[torch.Tensor, "rows classes"] | SparseTargets
    num_positions: int
    stride: int = 1
    index: Index | None = None
    shares: Float[torch.Tensor, " positions"] | None = None

    def __getitem__(self, labels: slice) -> "PositionTargets":
        """Returns some of the labels."""
        some = slice(labels.start * self.num_positions, labels.stop * self.num_positions)
        return self._like(self.rows[some], None if self.index is None else self.index[labels])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "PositionTargets":
        """Returns the same targets on a device."""
        index, shares = (
            None if values is None else values.to(device, non_blocking=non_blocking)
            for values in (self.index, self.shares)
        )
        rows = self.rows.to(device, non_blocking=non_blocking)
        return PositionTargets(rows, self.num_positions, self.stride, index, shares)

    def pin_memory(self) -> "PositionTargets":
        """Returns the same targets in memory that a GPU copies from while it computes."""
        return self._like(self.rows.pin_memory(), None if self.index is None else self.index.pin_memory())

    def maps_of(
        self, values: Float[torch.Tensor, "labels classes height width"]
    ) -> Float[torch.Tensor, "labels classes positions"]:
        """Returns a network's outputs at the positions: the mean of its logits in each cell, or
        those at the drawn positions.
        """
        return in_cells(values, self.stride) if self.index is None else at_index(values, self.index)

    def rows_of(
        self, values: Float[torch.Tensor, "labels classes height width"]
    ) -> Float[torch.Tensor, "rows classes"]:
        """Returns the same as a row for each of `rows`."""
        return self.maps_of(values).movedim(1, 2).flatten(0, 1)

    def labels_of(self, maps: Integer[torch.Tensor, "labels height width"]) -> Int64[torch.Tensor, " rows"]:
        """Returns the hard label of each of `rows`; a cell of several positions has none (-1)."""
        if self.index is not None:
            return maps.flatten(1).gather(1, self.index).flatten().long()
        return (
            (maps if self.stride == 1 else torch.full_like(maps[:, :: self.stride, :: self.stride], -1))
            .flatten()
            .long()
        )

    def means(self, values: Float[torch.Tensor, " rows"]) -> Float[torch.Tensor, " labels"]:
        """Returns the mean of each label's positions."""
        of_each = values.reshape(-1, self.num_positions)
        return of_each.mean(dim=1) if self.shares is None else of_each @ self.shares.to(of_each.dtype)

    @classmethod
    def join(
        cls, parts: Sequence["PositionTargets"], rows: Float[torch.Tensor, "rows classes"] | SparseTargets
    ) -> "PositionTargets":
        """Returns consecutive parts as one, given their rows as one."""
        index = [part.index for part in parts if part.index is not None]
        return parts[0]._like(rows, torch.cat(index) if index else None)

    def _like(
        self, rows: Float[torch.Tensor, "rows classes"] | SparseTargets, index: Index | None
    ) -> "PositionTargets":
        return PositionTargets(rows, self.num_positions, self.stride, index, self.shares)
