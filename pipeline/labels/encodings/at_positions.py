"""The encoding of a class at each position: a categorical one, at positions of a grid."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pipeline.core.errors import ConfigError
from pipeline.labels.encodings.base import NO_ANCHORS, Codec, Encoding, Field, LabelSpace
from pipeline.labels.encodings.positions import Positions
from pipeline.labels.position_targets import PositionTargets
from pipeline.labels.targets import Detail

_MOST_LEARNED = 1 << 18  # positions of a pilot


@dataclass(frozen=True)
class AtPositions(Encoding):
    """An encoding of labels at positions: `rows` holds each position as a label of its own.

    A field has an axis more than that of `rows`, the last one, for the positions: neighbours of the
    same column stand side by side, which compresses best (by 4 to 9% against the other order).
    """

    rows: Encoding
    positions: Positions

    signals = ("grid",)

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The kind of `rows`."""
        return self.rows.kind

    @property
    def detail(self) -> Detail:
        return self.rows.detail

    def num_values(self, space: LabelSpace) -> int:
        return space.num_classes * self.positions.number(_sides(space))

    @property
    def stride(self) -> int | None:
        return self.positions.stride

    def _fix(self, space: LabelSpace) -> str:
        return "leave `positions` out, or choose a kind for them (docs/labels.md)"

    def _check_settings(self, space: LabelSpace, where: str) -> None:
        self.rows.check(of_one(space), where)
        self.positions.check(_sides(space), f"{where}.positions")

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        count, each = self.positions.number(_sides(space)), self.rows.fields(of_one(space))
        fields = {name: replace(field, shape=(*field.shape, count), by_column=True) for name, field in each.items()}
        return fields | self.positions.fields()

    def tables(self, space: LabelSpace) -> dict[str, Field]:
        return self.rows.tables(of_one(space))

    def learn(self, log_probs: torch.Tensor, space: LabelSpace) -> dict[str, np.ndarray]:
        if not self.tables(space):
            return {}
        kept = log_probs if log_probs.ndim == 3 else self.positions.spread(log_probs)
        total = len(kept) * kept.shape[2]
        chosen = torch.linspace(0, total - 1, min(total, _MOST_LEARNED), dtype=torch.float64).long()
        return self.rows.learn(kept[chosen // kept.shape[2], :, chosen % kept.shape[2]], of_one(space))

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        return AtPositionsCodec(space, self, self.rows.codec(of_one(space), tables))

    def to_dict(self) -> dict[str, Any]:
        return {**self.rows.to_dict(), "positions": self.positions.to_dict()}


class AtPositionsCodec(Codec):
    """The codec of `AtPositions`. It takes log-probabilities at all positions, or at those that
    labels hold, as `decode` gives them: the fields of these positions are then among `anchors`.
    """

    def __init__(self, space: LabelSpace, encoding: AtPositions, rows: Codec) -> None:
        super().__init__(space)
        self._rows, self._positions, self._sides = rows, encoding.positions, _sides(space)
        self._names = [*encoding.rows.fields(rows.space)]
        self._count = encoding.positions.number(self._sides)

    def serves(self, temperature: float) -> bool:
        return self._rows.serves(temperature)

    def kept(self, values: torch.Tensor, fields: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return values if values.ndim == 3 else self._positions.cut(values, fields)

    def encode(
        self,
        log_probs: torch.Tensor,
        sample_ids: np.ndarray,
        view: int,
        anchors: Mapping[str, torch.Tensor] = NO_ANCHORS,
    ) -> dict[str, torch.Tensor]:
        drawn = {name: values.to(log_probs.device) for name, values in self._positions.draw(sample_ids, view).items()}
        drawn |= {name: anchors[name] for name in drawn if name in anchors}
        kept = self.kept(log_probs, drawn)
        encoded = self._rows.encode(kept.movedim(1, 2).flatten(0, 1), sample_ids, view)
        shape = (len(log_probs), self._count)
        return {
            name: values.unflatten(0, shape).movedim(1, -1).contiguous() for name, values in encoded.items()
        } | drawn

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        rows = self._rows.decode(self._as_rows(fields), temperature)
        return rows.reshape(-1, self._count, self.space.num_classes).movedim(2, 1)

    def targets(self, fields: dict[str, torch.Tensor], temperature: float) -> PositionTargets:
        rows = self._rows.targets({name: _as_columns(fields[name]) for name in self._names}, temperature)
        assert not isinstance(rows, PositionTargets), "a row is a label of one position"
        return self._positions.targets(rows, fields, self._sides)

    def _as_rows(self, fields: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: fields[name].movedim(-1, 1).flatten(0, 1) for name in self._names}


def _as_columns(field: torch.Tensor) -> torch.Tensor:
    """Returns a row for each position, in memory column by column as a field is: no number moves
    alone, and a softmax over few classes is quickest so.
    """
    return field.movedim(0, -2).flatten(-2).movedim(-1, 0)


def of_one(space: LabelSpace) -> LabelSpace:
    """Returns the space of the labels of single positions."""
    return replace(space, signal_kind="categorical", positions=None)


def placed_at(rows: Encoding, positions: Positions, where: str) -> AtPositions:
    """Returns an encoding at positions; raises ConfigError where its kind holds none."""
    if not rows.fits_positions:
        found = f"given, and kind {rows.kind!r} holds no labels at positions"
        raise ConfigError(where, found, expected="dense_uint8, dense_float16 or topk", fix="leave `positions` out")
    return AtPositions(rows, positions)


def _sides(space: LabelSpace) -> tuple[int, int]:
    assert space.positions is not None, "labels of a grid alone are at positions"
    return space.positions
