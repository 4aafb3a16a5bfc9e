"""The abstract loss of soft targets: a row of settings that is called on a batch."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from pydantic.dataclasses import dataclass
from torch import Tensor

from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.labels.position_targets import PositionTargets
from pipeline.labels.targets import Detail, SparseTargets
from pipeline.signals import SignalKind, StoredKind
from pipeline.student.blends import Blend
from pipeline.student.losses.standardise import standardise
from pipeline.student.position_blends import PositionBlend

_FIX = "choose another store in `labels`, or loss: {kind: kd, standardize: false}"
_LEAST_STANDARDISED = 3
#: How much of the teacher's distribution labels hold, and which stores hold so much.
_HELD: dict[Detail, str] = {
    "every class": "every class's probability",
    "filled tail": "the likeliest classes' probabilities, the others filled in from a model",
    "some classes": "some classes' probabilities only",
    "nothing": "nothing",
}
_STORES: dict[Detail, str] = {
    "every class": "a dense encoding",
    "filled tail": "`topk` with `tail: prior` or `uniform`",
    "some classes": "`topk` with `tail: rest`, `sampled`",
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SoftLoss(ABC):
    """A loss of soft targets. Subclasses are the kinds of row; each calls the function of its file.

    `standardize` has both sides standardised first. Then only the spacing of an example's classes
    counts, and not how sure of them a side is. The temperature applies to the standardised scores
    (the paper takes 2).
    """

    standardize: bool

    #: The name in `params.yaml`.
    kind: ClassVar[str]
    #: What labels may say. Those of a grid are compared row by row, a row for each position.
    signals: ClassVar[tuple[SignalKind, ...]] = ("categorical", "grid")
    #: How much of the teacher's distribution a label must hold: any of these.
    learns_from: ClassVar[tuple[Detail, ...]]
    #: Whether its two sides may have temperatures of their own.
    takes_label_temperature: ClassVar[bool] = False
    #: Whether an example needs one hard label beside its soft targets.
    needs_hard_label: ClassVar[bool] = False
    #: Whether it compares the positions of a grid, so that it needs all of them.
    compares_positions: ClassVar[bool] = False
    #: Whether an example's value depends on the others, so that processes can't share a batch.
    compares_examples: ClassVar[bool] = False

    def __call__(
        self,
        logits: Float[Tensor, "batch classes *grid"],
        soft_targets: Float[Tensor, "batch classes"] | SparseTargets | PositionTargets,
        hard_labels: Integer[Tensor, "batch ..."],
        *,
        temperature: float,
        epoch: int,
    ) -> Float[Tensor, " batch"]:
        """Returns a value in nats per example, whose mean is the loss; `epoch` counts from 0.

        `temperature` is the student's. So is that of the soft targets, unless the row names
        another one (`label_temperature`). Of targets at positions it is a mean over these.
        """
        if isinstance(soft_targets, PositionTargets):
            return self._at_positions(logits, soft_targets, hard_labels, temperature, epoch)
        if self.standardize:
            assert isinstance(soft_targets, Tensor), "labels are checked"
            logits = standardise(logits)
            # Log-probabilities at a temperature, times it, are the logits and a shift, which
            # standardising removes.
            soft_targets = F.log_softmax(standardise(temperature * soft_targets) / temperature, dim=1)
        return self._values(logits, soft_targets, hard_labels, temperature, epoch)

    def _at_positions(
        self, logits: Tensor, targets: PositionTargets, maps: Tensor, temperature: float, epoch: int
    ) -> Tensor:
        """Returns the mean over the positions of each example. One that needs hard labels is 0
        where a position has none.
        """
        rows, labels = targets.rows_of(logits), targets.labels_of(maps)
        values = self(rows, targets.rows, labels.clamp(min=0), temperature=temperature, epoch=epoch)
        return targets.means(torch.where(labels >= 0, values, 0.0) if self.needs_hard_label else values)

    @abstractmethod
    def _values(self, logits: Tensor, targets: Any, hard_labels: Tensor, temperature: float, epoch: int) -> Tensor: ...

    def blend(self, soft_targets: Any, temperature: float) -> Blend | None:
        """Returns all that the loss needs of soft targets, worked out; None: it is no sum of
        cross-entropies with the student.
        """
        return None

    def blend_positions(self, targets: PositionTargets, temperature: float) -> PositionBlend | None:
        """Returns the same of soft targets at positions."""
        rows = self.blend(targets.rows, temperature)
        return None if rows is None else PositionBlend.of(targets, rows)

    def warmed_up(self) -> "SoftLoss":
        """Returns the same loss as it is after its warm-up, if it has one: for a short trial."""
        return self

    def check_labels(self, detail: Detail, store: str, where: str) -> None:
        """Raises ConfigError where it can't learn from such labels.

        Args:
            store: The name of their store in the message.
            where: The place of this loss in `params.yaml`.
        """
        able: tuple[Detail, ...] = ("every class",) if self.standardize else self.learns_from
        if detail not in able:
            found = f"kind {self.kind!r}{', standardised,' if self.standardize else ''} can't learn from {store}"
            expected = " or ".join(_STORES[each] for each in able)
            raise ConfigError(where, f"{found}, whose labels hold {_HELD[detail]}", expected=expected, fix=_FIX)

    def check_signal(self, found: StoredKind, where: str) -> None:
        """Raises ConfigError where labels say something else than it learns from."""
        if found not in self.signals:
            fixes: dict[StoredKind, str] = {
                "categorical": "kd, dkd, dist, nkd or mse",
                "binary": "binary_kd",
                "grid": "kd, dkd, dist, nkd, mse or channelwise",
                "vector": "none: name the store in `features`",
            }
            what = f"{self.kind!r}, which learns from {' or '.join(self.signals)} labels, and these are {found}"
            raise ConfigError(f"{where}.kind", what, expected=fixes[found])

    def check_positions(self, stride: int | None, where: str) -> None:
        """Raises ConfigError where the positions of a grid's labels are not what it needs.

        Args:
            stride: The side of the cells that labels are of; None: positions were drawn.
        """
        if self.needs_hard_label and stride is not None and stride > 1:
            found = f"kind {self.kind!r} needs one hard label, and each of these labels is of a cell of several"
            expected = "a store with `positions: {stride: 1}`, or of drawn positions"
            raise ConfigError(where, f"{found} positions ({stride} x {stride})", expected=expected, fix=_FIX)
        if self.compares_positions and stride is None:
            found = f"kind {self.kind!r} compares the positions of an image, and this store holds drawn ones"
            raise ConfigError(where, found, expected="a store with `positions: {stride: ...}`", fix=_FIX)

    def check_views(self, mixes: bool, where: str) -> None:
        """Raises ConfigError where views mix two samples and it needs the one class of a sample."""
        if mixes and self.needs_hard_label:
            found = f"kind {self.kind!r} needs one hard label, and each view of this store mixes two samples"
            raise ConfigError(where, found, expected="a store whose views do not mix samples", fix=_FIX)

    def check_label_temperature(self, where: str) -> None:
        """Raises ConfigError where labels can't be read at another temperature than the student's.

        Args:
            where: The place of `label_temperature` in `params.yaml`.
        """
        if self.standardize or not self.takes_label_temperature:
            found = (
                f"given, and loss kind {self.kind!r}{', standardised,' if self.standardize else ''} has one temperature"
            )
            raise ConfigError(
                where, found, expected="null, or loss: kd, dkd, dist, binary_kd or channelwise, not standardised"
            )

    def check_classes(self, num_classes: int, where: str) -> None:
        """Raises ConfigError where the classes are so few that standardised logits are the same,
        whatever the logits: there would be nothing to learn.
        """
        if self.standardize and num_classes < _LEAST_STANDARDISED:
            found = f"standardize: true, and {num_classes} classes, whose z-scores are +-0.71 for any logits"
            raise ConfigError(f"{where}.standardize", found, expected="false")

    def check_data(self, num_unlabelled: int, where: str) -> None:
        """Raises ConfigError where it needs each sample's class and some samples have none."""
        if num_unlabelled and self.needs_hard_label:
            found = f"kind {self.kind!r} needs hard labels, and {num_unlabelled:,} training samples are unlabelled"
            raise ConfigError(where, found, expected="kd, dist or mse", fix="or leave unlabelled samples out")
