"""What a student learns: the losses of a batch, weighted. The soft one is a row of settings, named by its `kind`.

A student's row `loss:` in `params.yaml` is `{kind: <name here>, standardize: <yes or no>, ...settings}`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass as settings_dataclass
from torch import Tensor, nn

from pipeline.core.config import STRICT, validate_kind
from pipeline.core.errors import ConfigError
from pipeline.labels.targets import Detail, SparseTargets
from pipeline.signals.losses import cross_entropy
from pipeline.student.batches import LabelledBatch
from pipeline.student.losses.kd import knowledge_distillation
from pipeline.student.soft_losses import (
    centred_mse,
    decoupled_knowledge_distillation,
    dist,
    normalised_knowledge_distillation,
    standardise,
)


@settings_dataclass(frozen=True, kw_only=True, config=STRICT)
class SoftLoss(ABC):
    """What a student learns from soft targets; subclasses are the kinds of row, and name the function that they set.

    `standardize` has both sides standardised first: only how the classes of an example are spaced counts then, not how
    sure of them a side is. The temperature applies to what that gives (the paper takes 2).
    """

    standardize: bool

    kind: ClassVar[str]
    learns_from: ClassVar[tuple[Detail, ...]]
    needs_hard_label: ClassVar[bool] = False

    def __call__(
        self,
        logits: Float[Tensor, "batch classes"],
        soft_targets: Float[Tensor, "batch classes"] | SparseTargets,
        hard_labels: Int64[Tensor, " batch"],
        *,
        temperature: float,
        epoch: int,
    ) -> Float[Tensor, " batch"]:
        """A value per example, whose mean is the loss; `epoch` counts from 0."""
        if self.standardize:
            assert isinstance(soft_targets, Tensor), "labels are checked"
            logits = standardise(logits)
            soft_targets = F.log_softmax(standardise(temperature * soft_targets) / temperature, dim=1)
        return self._values(logits, soft_targets, hard_labels, temperature, epoch)

    @abstractmethod
    def _values(self, logits: Tensor, targets: Any, hard_labels: Tensor, temperature: float, epoch: int) -> Tensor: ...

    def warmed_up(self) -> "SoftLoss":
        """The same loss as it is after its warm-up, if it has one: for a short trial."""
        return self

    def check_labels(self, detail: Detail, store: str, where: str) -> None:
        """Raises ConfigError where it can't learn from such labels.

        Args:
            store: What to call their store.
            where: The place of this loss in `params.yaml`.
        """
        able: tuple[Detail, ...] = ("every class",) if self.standardize else self.learns_from
        if detail not in able:
            found = f"kind {self.kind!r}{', standardised,' if self.standardize else ''} can't learn from {store}"
            expected = " or ".join(_STORES[each] for each in able)
            raise ConfigError(where, f"{found}, whose labels tell {_TOLD[detail]}", expected=expected, fix=_FIX)

    def check_views(self, mixes: bool, where: str) -> None:
        """Raises ConfigError where views are mixed of two images and it needs the one class of an image."""
        if mixes and self.needs_hard_label:
            found = f"kind {self.kind!r} needs one hard label, and this store's views are mixed of two images"
            raise ConfigError(where, found, expected="a store of views of one image each", fix=_FIX)

    def check_data(self, num_unlabelled: int, where: str) -> None:
        """Raises ConfigError where some training images are unlabelled and it needs the class of each."""
        if num_unlabelled and self.needs_hard_label:
            found = f"kind {self.kind!r} needs hard labels, and {num_unlabelled:,} training images are unlabelled"
            raise ConfigError(where, found, expected="kd, dist or mse", fix="or leave unlabelled images out")


_FIX = "choose another store in `labels`, or loss: {kind: kd, standardize: false}"
_TOLD: dict[Detail, str] = {
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


@settings_dataclass(frozen=True, kw_only=True, config=STRICT)
class Kd(SoftLoss):
    """`knowledge_distillation`."""

    kind = "kd"
    learns_from = ("every class", "filled tail", "some classes")

    def _values(self, logits: Tensor, targets: Any, hard_labels: Tensor, temperature: float, epoch: int) -> Tensor:
        return knowledge_distillation(logits, targets, temperature=temperature)


@settings_dataclass(frozen=True, kw_only=True, config=STRICT)
class Dkd(SoftLoss):
    """`decoupled_knowledge_distillation`, growing from next to nothing to all of it over the first epochs."""

    target_weight: NonNegativeFloat
    other_weight: NonNegativeFloat
    warmup_epochs: PositiveInt

    kind = "dkd"
    learns_from = ("every class", "filled tail")
    needs_hard_label = True

    def _values(self, logits: Tensor, targets: Tensor, hard_labels: Tensor, temperature: float, epoch: int) -> Tensor:
        values = decoupled_knowledge_distillation(
            logits,
            targets,
            hard_labels,
            temperature=temperature,
            target_weight=self.target_weight,
            other_weight=self.other_weight,
        )
        return min((epoch + 1) / self.warmup_epochs, 1.0) * values

    def warmed_up(self) -> SoftLoss:
        return replace(self, warmup_epochs=1)


@settings_dataclass(frozen=True, kw_only=True, config=STRICT)
class Dist(SoftLoss):
    """`dist`: a loss of the batch, so that another batch size is another loss."""

    inter_class_weight: NonNegativeFloat
    intra_class_weight: NonNegativeFloat

    kind = "dist"
    learns_from = ("every class",)

    def _values(self, logits: Tensor, targets: Tensor, hard_labels: Tensor, temperature: float, epoch: int) -> Tensor:
        return dist(
            logits,
            targets,
            temperature=temperature,
            inter_class_weight=self.inter_class_weight,
            intra_class_weight=self.intra_class_weight,
        )


@settings_dataclass(frozen=True, kw_only=True, config=STRICT)
class Nkd(SoftLoss):
    """`normalised_knowledge_distillation`."""

    gamma: NonNegativeFloat

    kind = "nkd"
    learns_from = ("every class", "filled tail")
    needs_hard_label = True

    def _values(self, logits: Tensor, targets: Tensor, hard_labels: Tensor, temperature: float, epoch: int) -> Tensor:
        return normalised_knowledge_distillation(
            logits, targets, hard_labels, temperature=temperature, gamma=self.gamma
        )


@settings_dataclass(frozen=True, kw_only=True, config=STRICT)
class Mse(SoftLoss):
    """`centred_mse`."""

    kind = "mse"
    learns_from = ("every class",)

    def _values(self, logits: Tensor, targets: Tensor, hard_labels: Tensor, temperature: float, epoch: int) -> Tensor:
        return centred_mse(logits, targets, temperature=temperature)


LOSSES: dict[str, type[SoftLoss]] = {"kd": Kd, "dkd": Dkd, "dist": Dist, "nkd": Nkd, "mse": Mse}


def build_loss(row: object, where: str) -> SoftLoss:
    """The loss that a row names; raises ConfigError where kind or settings are wrong."""
    loss: SoftLoss = validate_kind(LOSSES, row, where)
    return loss


@dataclass(frozen=True)
class Objective:
    """hard_weight * CE + soft_weight * soft loss: means over a batch.

    Of an image that is mixed of two, the CE is that of both classes, weighted by the images' shares. For images without a
    hard label (-1; one of both is enough) the CE is 0: the weight of an image does not depend on how many others have one.

    References:
        Geoffrey Hinton, Oriol Vinyals, Jeff Dean, "Distilling the Knowledge in a Neural Network", 2015,
        arXiv 1503.02531, section 2.
        Hongyi Zhang, Moustapha Cisse, Yann N. Dauphin, David Lopez-Paz, "mixup: Beyond Empirical Risk Minimization",
        2017, arXiv 1710.09412, section 2.
    """

    hard_weight: float
    soft_weight: float
    temperature: float
    label_smoothing: float
    loss: SoftLoss

    def __call__(self, model: nn.Module, batch: LabelledBatch, device: torch.device) -> Float[Tensor, ""]:
        """The batch's mean loss."""
        logits = model(batch.images.to(device, non_blocking=True))
        # On a CPU, autocast leaves log_softmax in bfloat16, which has 3 digits.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        hard_labels = batch.hard_labels.to(device, non_blocking=True)
        loss: Tensor | float = 0.0
        if self.hard_weight:
            loss = self.hard_weight * self._hard(logits, hard_labels, batch)
        if self.soft_weight:
            assert batch.soft_targets is not None, "the views were opened with a temperature"
            soft = self.loss(logits, batch.soft_targets, hard_labels, temperature=self.temperature, epoch=batch.epoch)
            loss = loss + self.soft_weight * soft
        assert isinstance(loss, Tensor), "settings are checked: one of the weights is positive"
        return loss.mean()

    def _hard(self, logits: Tensor, hard_labels: Tensor, batch: LabelledBatch) -> Float[Tensor, " batch"]:
        values = cross_entropy(logits, hard_labels, label_smoothing=self.label_smoothing)
        if batch.partner_labels is not None and batch.own_shares is not None:
            labels, shares = (
                some.to(logits.device, non_blocking=True) for some in (batch.partner_labels, batch.own_shares)
            )
            partner = cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
            values = shares * values + (1 - shares) * partner
        known = _is_labelled(batch)
        return values if known.all() else values * known.to(values.device, values.dtype, non_blocking=True)


def _is_labelled(batch: LabelledBatch) -> Bool[Tensor, " batch"]:
    """Which views have a hard label, on the CPU, where these come from: asking a device would be to wait for it."""
    known = batch.hard_labels >= 0
    return known if batch.partner_labels is None else known & (batch.partner_labels >= 0)
