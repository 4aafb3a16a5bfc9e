"""The two parts of an encoding: a frozen dataclass of settings, and a codec between
log-probabilities and plain arrays.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt64

from pipeline.core.errors import ConfigError, StoreError
from pipeline.labels.position_targets import PositionTargets
from pipeline.labels.targets import Detail, SparseTargets
from pipeline.signals import STORED, Signal, StoredKind, StoredSignal

NO_ANCHORS: Mapping[str, torch.Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class LabelSpace:
    """The classes and temperatures that all labels of a store have in common.

    Of embeddings, `num_classes` is the number of their dimensions, and 1 the only temperature.
    `temperature` is the one that log-probabilities are stored at; `temperatures` are the declared
    ones, at which fidelity is measured and which every encoding except `sampled` can serve.
    `positions` is the height and width of the grid that has a class at each position."""

    num_classes: int
    temperature: float
    temperatures: tuple[float, ...]
    signal_kind: StoredKind = "categorical"
    positions: tuple[int, int] | None = None

    @property
    def signal(self) -> StoredSignal:
        """The meaning of the labels."""
        return STORED[self.signal_kind]

    @property
    def class_signal(self) -> Signal:
        """The meaning of labels of classes. Raises ConfigError where they are embeddings."""
        if not isinstance(self.signal, Signal):
            found, fix = f"labels of the signal {self.signal_kind}", "name a store of embeddings in `features`"
            raise ConfigError("labels", found, expected="labels of classes", fix=fix)
        return self.signal

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the teacher's outputs for a sample."""
        return (self.num_classes, *(self.positions or ()))

    def of_embeddings(self, dimensions: int) -> "LabelSpace":
        """Returns the space of embeddings of the same samples."""
        return LabelSpace(dimensions, 1.0, (1.0,), "vector")

    @property
    def others(self) -> tuple[float, ...]:
        """The declared temperatures without the stored one."""
        return tuple(t for t in self.temperatures if t != self.temperature)


@dataclass(frozen=True)
class Field:
    """An array of a store, in a dtype that any Zarr library reads: what an encoding keeps of each
    label, of each sample (an anchor), or (a table) once of all.

    `fill_value` is a value that no label has, so that a block that was never written is seen.
    `by_column` stores the entries of a label apart, all first ones, then all second ones, because
    these compress better among themselves. `most` is the largest value that has a meaning, where
    another one would be looked up in vain."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill_value: float | int
    by_column: bool = False
    most: int | None = None

    @property
    def torch_dtype(self) -> torch.dtype:
        return torch.from_numpy(np.empty(0, self.dtype)).dtype

    def is_unwritten(self, values: np.ndarray) -> bool:
        """Returns whether any entry of a range that was read holds the fill value."""
        missing = np.isnan(values) if isinstance(self.fill_value, float) else values == self.fill_value
        return bool(missing.any())

    def above(self, values: np.ndarray) -> int | None:
        """Returns the largest entry where it is above `most`."""
        largest = int(values.max(initial=0)) if self.most is not None else 0
        return largest if self.most is not None and largest > self.most else None


class Encoding(ABC):
    """A way to write label vectors. Subclasses are frozen dataclasses; their attributes are the
    settings in `params.yaml` and in the manifest.
    """

    kind: ClassVar[str]
    #: The number of views that an anchor is made of: always the first ones of the ViewSpec,
    #: whatever views a store holds, so that stores of other views have equal anchors. 0: none.
    anchor_views: int = 0

    #: The signals whose values it can hold.
    signals: ClassVar[tuple[StoredKind, ...]] = ("categorical",)
    #: Whether it can hold a label at each of several positions (at_positions.py).
    fits_positions: ClassVar[bool] = False

    @property
    def is_of_embeddings(self) -> bool:
        """Whether it holds the teacher's embeddings, not what it says of classes."""
        return self.signals == ("vector",)

    def num_values(self, space: LabelSpace) -> int:
        """Returns the number of values that a decoded label has, over all its positions."""
        return space.num_classes

    @property
    def stride(self) -> int | None:
        """The side of the cells that labels of a grid are of; None: of positions that were
        drawn.
        """
        return 1

    @property
    @abstractmethod
    def detail(self) -> Detail:
        """The part of the teacher's distribution that `Codec.targets` has, which decides the losses
        that can use it.
        """

    def check(self, space: LabelSpace, where: str) -> None:
        """Raises ConfigError where kind or settings do not fit the labels."""
        if space.signal_kind not in self.signals:
            found = f"{self.kind!r}, which holds labels of the signal {' or '.join(self.signals)}"
            fix = f"these are {space.signal_kind}: {self._fix(space)}"
            raise ConfigError(f"{where}.kind", found, expected=f"one for {space.signal_kind} labels", fix=fix)
        self._check_settings(space, where)

    def _fix(self, space: LabelSpace) -> str:
        """Returns what to do about labels of another signal."""
        at_positions = self.fits_positions and space.positions is not None
        return "add `positions: {stride: 4}`" if at_positions else "choose a kind for them (docs/labels.md)"

    def _check_settings(self, space: LabelSpace, where: str) -> None:  # noqa: B027 (most fit any labels)
        """Raises ConfigError where the settings do not fit the labels."""

    @abstractmethod
    def fields(self, space: LabelSpace) -> dict[str, Field]:
        """Returns the arrays that hold the labels, an entry for each."""

    def tables(self, space: LabelSpace) -> dict[str, Field]:
        """Returns the arrays that the store holds once; `learn` fills them."""
        return {}

    def learn(self, log_probs: Float[torch.Tensor, "labels classes *grid"], space: LabelSpace) -> dict[str, np.ndarray]:
        """Returns the tables, from a pilot's log-probabilities at the stored temperature."""
        return {}

    def anchors(self, space: LabelSpace) -> dict[str, Field]:
        """Returns the arrays that hold each sample's anchor, which `Codec.make_anchors` fills."""
        return {}

    def row_arrays(self, space: LabelSpace) -> dict[str, Field]:
        """Returns all that a reader has of a label: its own fields, and those of its sample's
        anchor.
        """
        return {**self.fields(space), **self.anchors(space)}

    @abstractmethod
    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> "Codec":
        """Returns the writer and reader of labels; tables follow to the device of the labels."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the row that makes this encoding again."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]


class Codec(ABC):
    """A writer of log-probabilities (natural log) at the store's temperature, and their reader at
    any it can serve.
    """

    def __init__(self, space: LabelSpace) -> None:
        self.space = space

    def make_anchors(
        self, mean_log_probs: Float[torch.Tensor, "samples classes *grid"]
    ) -> dict[str, Shaped[torch.Tensor, "samples ..."]]:
        """Returns the anchors of samples, on the device that the log-probabilities are on.

        Args:
            mean_log_probs: The normalised geometric mean of the teacher's predictions for the first
                views of each sample, at the stored temperature.
        """
        return {}

    def anchors_off(
        self,
        anchors: Mapping[str, Shaped[torch.Tensor, "samples ..."]],
        mean_log_probs: Float[torch.Tensor, "samples classes"],
    ) -> Float[torch.Tensor, " samples"]:
        """Returns how far anchors are from what `make_anchors` would make of mean predictions, in
        steps of what they keep: 1 at most where nothing but rounding differs.
        """
        return torch.zeros(len(mean_log_probs))

    @abstractmethod
    def encode(
        self,
        log_probs: Float[torch.Tensor, "labels classes *grid"],
        sample_ids: UInt64[np.ndarray, " labels"],
        view: int,
        anchors: Mapping[str, Shaped[torch.Tensor, "labels ..."]] = NO_ANCHORS,
    ) -> dict[str, Shaped[torch.Tensor, "labels ..."]]:
        """Returns the fields of finite log-probabilities, on the device that these are on.

        Args:
            anchors: Those of the labels' samples, row by row.
        """

    @abstractmethod
    def decode(
        self, fields: dict[str, Shaped[torch.Tensor, "labels ..."]], temperature: float
    ) -> Float[torch.Tensor, "labels classes *positions"]:
        """Returns normalised float32 log-probabilities of every class at `temperature`, on the
        fields' device.

        Raises StoreError where the store can't serve that temperature.

        Args:
            fields: With the anchors of the labels' samples among them.
        """

    def targets(
        self, fields: dict[str, Shaped[torch.Tensor, "labels ..."]], temperature: float
    ) -> Float[torch.Tensor, "labels classes"] | SparseTargets | PositionTargets:
        """Returns what a loss learns from: every class, or a few and the rest where that is what
        the encoding is for; of a grid, either of these at positions.
        """
        return self.decode(fields, temperature)

    def kept(
        self,
        values: Float[torch.Tensor, "labels classes *grid"],
        fields: Mapping[str, Shaped[torch.Tensor, "labels ..."]],
    ) -> Float[torch.Tensor, "labels values *positions"]:
        """Returns the part of exact values that decoded ones stand for.

        Args:
            fields: Of the labels that were made of the values.
        """
        return values

    def serves(self, temperature: float) -> bool:
        """Returns whether labels can be read at this temperature."""
        return True

    def require(self, temperature: float) -> None:
        """Raises StoreError where `serves` is false."""
        if not self.serves(temperature):
            able = ", ".join(
                f"{t:g}" for t in sorted({self.space.temperature, *self.space.temperatures}) if self.serves(t)
            )
            raise StoreError(
                "temperature",
                f"{temperature:g}, which this store can't serve",
                expected=f"one that was declared when it was written: {able}",
                fix="choose one of these, or declare it in dump_labels.temperatures and dump again",
            )


@dataclass(frozen=True)
class LogScale:
    """A scale of codes 0 to levels - 1 for log-probabilities, on a quadratic scale: code q stands
    for -range_nats (q / (levels - 1))^2, so that likely classes, which carry the loss, get the fine
    steps.

    Error bound: |stored - exact| <= range_nats (q / L^2 + 1 / (4 L^2)) at code q, with L = levels -
    1; values below -range_nats clip to it. The dtype's largest number is never a code: it is the
    fill value."""

    levels: int
    range_nats: float

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self.levels <= 255 else np.uint16)

    @property
    def fill_value(self) -> int:
        return int(np.iinfo(self.dtype).max)

    def encode(self, log_probs: torch.Tensor) -> torch.Tensor:
        """Returns codes, in the dtype of the scale; anything above 0 counts as 0."""
        share = (-log_probs / self.range_nats).clamp(0, 1)
        return (share.sqrt() * (self.levels - 1)).round().to(torch.uint8 if self.levels <= 255 else torch.uint16)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Returns log-probabilities in float32."""
        share = codes.float().mul_(1 / (self.levels - 1))
        return share.square_().mul_(-self.range_nats)


def smallest_unsigned(count: int) -> np.dtype[Any]:
    """Returns the smallest unsigned integers that hold 0 to count - 1 and one number more, for the
    fill value.
    """
    return next(np.dtype(t) for t in (np.uint8, np.uint16, np.uint32, np.uint64) if count <= np.iinfo(t).max)
