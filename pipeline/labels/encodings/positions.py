"""The positions of a grid that a label holds: cells, or positions that are drawn for each label."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Annotated, Any, final

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt64
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass

from pipeline.core.bounds import Seed
from pipeline.core.config import STRICT, validate
from pipeline.core.errors import ConfigError
from pipeline.core.sample_draws import sample_draws
from pipeline.core.seeding import derive_seed, philox
from pipeline.labels.encodings.base import Field
from pipeline.labels.position_targets import Index, PositionTargets, at_index, in_cells
from pipeline.labels.targets import SparseTargets
from pipeline.signals.losses import log_normalise

Sides = tuple[int, int]
Some = Mapping[str, Shaped[torch.Tensor, "labels ..."]]
Maps = Float[torch.Tensor, "labels classes height width"]
Kept = Float[torch.Tensor, "labels classes positions"]
Rows = Float[torch.Tensor, "rows classes"] | SparseTargets

DRAW = "draw"
_UNDRAWN = 2**32 - 1  # the fill value


class Positions(ABC):
    """The positions of a label, as the key `positions` of an encoding's row names them."""

    #: The side of cells; None: single positions.
    stride: int | None

    @abstractmethod
    def check(self, sides: Sides, where: str) -> None:
        """Raises ConfigError where they do not fit a grid of this height and width."""

    @abstractmethod
    def number(self, sides: Sides) -> int:
        """Returns the number of positions of a label."""

    def fields(self) -> dict[str, Field]:
        """Returns the arrays from which a label's positions follow."""
        return {}

    def draw(self, sample_ids: UInt64[np.ndarray, " labels"], view: int) -> dict[str, Shaped[torch.Tensor, " labels"]]:
        """Returns these fields of new labels, on the CPU."""
        return {}

    @abstractmethod
    def cut(self, log_probs: Maps, fields: Some) -> Kept:
        """Returns what labels hold of log-probabilities at all positions."""

    @abstractmethod
    def spread(self, log_probs: Maps) -> Kept:
        """Returns the same for labels that nothing was drawn for: whatever they may hold."""

    @abstractmethod
    def targets(self, rows: Rows, fields: Some, sides: Sides) -> PositionTargets:
        """Returns the soft targets at the positions, given as rows."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings that make them again."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]


@final
@dataclass(frozen=True, config=STRICT)
class Cells(Positions):
    """The square cells of `stride` x `stride` positions, each with the softmax of its mean
    logits.
    """

    stride: Annotated[int, Limits(ge=1, le=1 << 15)]

    def check(self, sides: Sides, where: str) -> None:
        if any(side % self.stride for side in sides):
            found = f"{self.stride}, of a grid of {sides[0]} x {sides[1]}"
            raise ConfigError(f"{where}.stride", found, expected="a number that divides both sides")

    def number(self, sides: Sides) -> int:
        return (sides[0] // self.stride) * (sides[1] // self.stride)

    def cut(self, log_probs: Maps, fields: Some) -> Kept:
        return self.spread(log_probs)

    def spread(self, log_probs: Maps) -> Kept:
        cells = in_cells(log_probs, self.stride)
        return cells if self.stride == 1 else log_normalise(cells)

    def targets(self, rows: Rows, fields: Some, sides: Sides) -> PositionTargets:
        return PositionTargets(rows, self.number(sides), self.stride)


@final
@dataclass(frozen=True, config=STRICT)
class Drawn(Positions):
    """A draw of `count` positions for each label: one in each of so many stretches, into which all
    positions are cut row by row.

    A label keeps one random number, from which its positions follow. Weighted by the lengths of the
    stretches, the mean over draws of a label's mean is that of all positions.
    """

    stride = None  # no setting: it has no type of its own
    count: Annotated[int, Limits(ge=1, le=1 << 30)]
    seed: Seed

    def check(self, sides: Sides, where: str) -> None:
        if self.count > sides[0] * sides[1]:
            found = f"{self.count:,}, of a grid of {sides[0]} x {sides[1]}"
            fix = "or `positions: {stride: 1}`, which holds all"
            raise ConfigError(f"{where}.count", found, expected=f"at most {sides[0] * sides[1]:,}", fix=fix)

    def number(self, sides: Sides) -> int:
        return self.count

    def fields(self) -> dict[str, Field]:
        return {DRAW: Field((), np.dtype(np.uint32), _UNDRAWN)}

    def draw(self, sample_ids: UInt64[np.ndarray, " labels"], view: int) -> dict[str, torch.Tensor]:
        word = sample_draws(derive_seed(self.seed, "positions"), sample_ids, view, 0)[0]
        return {DRAW: word.clamp(max=_UNDRAWN - 1).to(torch.uint32)}

    def cut(self, log_probs: Maps, fields: Some) -> Kept:
        height, width = log_probs.shape[2:]
        return at_index(log_probs, self.index(fields[DRAW], (height, width)))

    def spread(self, log_probs: Maps) -> Kept:
        return log_probs.flatten(2)

    def index(self, draws: Shaped[torch.Tensor, " labels"], sides: Sides) -> Index:
        """Returns the positions of labels, numbered row by row, from their random numbers."""
        starts, lengths = (values.to(draws.device) for values in stretches(self.count, sides[0] * sides[1]))
        place = torch.arange(-(-self.count // 4), device=draws.device)
        own, counter = torch.broadcast_tensors(draws.long()[:, None], place)
        words = torch.stack(philox(self.seed, (counter, own, counter * 0, counter * 0)), dim=2).flatten(1)
        return starts + ((words[:, : self.count] * lengths) >> 32)

    def targets(self, rows: Rows, fields: Some, sides: Sides) -> PositionTargets:
        lengths = stretches(self.count, sides[0] * sides[1])[1]
        shares = (lengths.double() / (sides[0] * sides[1])).float().to(fields[DRAW].device)
        return PositionTargets(rows, self.count, index=self.index(fields[DRAW], sides), shares=shares)


@lru_cache(maxsize=8)
def stretches(count: int, positions: int) -> tuple[Int64[torch.Tensor, " count"], Int64[torch.Tensor, " count"]]:
    """Returns where stretches of as equal lengths as can be begin, and their lengths."""
    ends = torch.arange(count + 1) * positions // count
    return ends[:-1], ends.diff()


def build_positions(row: object, where: str) -> Positions:
    """Returns the positions that a row names; raises ConfigError where it names none."""
    if not isinstance(row, dict) or not {"stride", "count"} & {*row}:
        raise ConfigError(where, f"{row!r:.80}", expected="{stride: S} or {count: N, seed: S}")
    positions: Positions = validate(Cells if "stride" in row else Drawn, row, where)
    return positions
