"""The losses of soft targets as modules, and their weighted sum with that of hard labels."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pipeline.core.errors import ConfigError, DataError
from pipeline.data.hard_labels import UNLABELLED, is_labelled
from pipeline.labels.targets import SparseTargets
from pipeline.library.arguments import need_number, need_whole
from pipeline.library.labels import Labels, as_labels
from pipeline.library.loss_inputs import need_classes, need_labels_of, need_plain_views, need_same_classes
from pipeline.signals import SIGNALS
from pipeline.student.losses import SoftLoss, build_loss
from pipeline.training.hard_labels import mixed_cross_entropy

Targets = Float[Tensor, "_ _"] | SparseTargets


class Loss(nn.Module, ABC):
    """A loss that is called with the student's logits and a batch's labels, of plain views or of
    mixed ones; it returns the mean over the batch, in nats.
    """

    @abstractmethod
    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Any,
        hard_labels: Integer[Tensor, "_ ..."],
        partner_labels: Integer[Tensor, "_ ..."] | None = None,
        own_shares: Float[Tensor, " _"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the batch's mean loss."""

    @abstractmethod
    def check(self, labels: Labels | str | Path) -> None:
        """Raises ConfigError where it can't learn from the labels of a store, or StoreError where
        these can't be had at its temperature.
        """

    def set_epoch(self, epoch: int) -> None:
        """Sets the number of the epoch, from 0, for a loss that warms up."""
        need_whole("set_epoch", epoch)


class SoftTargetLoss(Loss):
    """A loss of soft targets. Of mixed views it compares with the teacher alone.

    Logits of bfloat16 or float16 are computed with as float32.

    Args:
        kind: The name of the loss, as in `params.yaml`: `kd`, `dkd`, `dist`, `nkd`, `mse`,
            `binary_kd`.
        temperature: The one that the soft targets are at.
        standardize: Whether both sides are standardised first; then only the spacing of an
            example's classes counts.
        settings: The others of the loss, by name.
    """

    def __init__(self, kind: str, temperature: float, *, standardize: bool, **settings: float) -> None:
        super().__init__()
        self.loss: SoftLoss = build_loss({"kind": kind, "standardize": standardize, **settings}, kind)
        if self.loss.signals == ("grid",):
            raise ConfigError(kind, "a loss of classes at positions, which students' rows learn from", expected="kd")
        self.temperature = need_number(f"{kind}: temperature", temperature, above=0)
        #: The number of the epoch, from 0, for a loss that warms up.
        self.epoch = 0

    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Targets,
        hard_labels: Integer[Tensor, "_ ..."],
        partner_labels: Integer[Tensor, "_ ..."] | None = None,
        own_shares: Float[Tensor, " _"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the batch's mean loss.

        Raises:
            ConfigError: It can't learn from sparse targets, or from mixed views, and these are.
            DataError: The logits are of other classes or views than the labels; or it needs hard
                labels, and one is -1 or no class.
        """
        if isinstance(targets, SparseTargets):
            self.loss.check_labels("some classes", "sparse targets", self.loss.kind)
        need_labels_of(SIGNALS[self.loss.signals[0]], hard_labels, logits.shape[1], self.loss.kind)
        need_same_classes(logits, targets, hard_labels, self.loss.kind)
        if self.loss.needs_hard_label:
            need_plain_views(partner_labels, self.loss.kind)
            need_classes(hard_labels, logits.shape[1], 0, self.loss.kind)
        logits = _precise(logits)
        labels = hard_labels.to(logits.device, non_blocking=True)
        return self.loss(logits, targets, labels, temperature=self.temperature, epoch=self.epoch).mean()

    def check(self, labels: Labels | str | Path) -> None:
        """Raises ConfigError where it can't learn from the labels of a store, or StoreError where
        these can't be had at its temperature.
        """
        labels = as_labels(labels)
        labels.need_targets(self.temperature)
        store = labels.store
        self.loss.check_signal(store.manifest.signal, self.loss.kind)
        self.loss.check_labels(store.encoding.detail, f"{labels.location} ({store.encoding.kind})", self.loss.kind)
        self.loss.check_views(store.views.mixes_labels, self.loss.kind)
        self.loss.check_classes(store.manifest.num_classes, self.loss.kind)

    def set_epoch(self, epoch: int) -> None:
        """Sets the number of the epoch, from 0, for a loss that warms up."""
        self.epoch = need_whole("set_epoch", epoch)

    def extra_repr(self) -> str:
        """Returns the settings, for the module's description."""
        return f"{self.loss}, temperature={self.temperature:g}"


class KD(SoftTargetLoss):
    """The loss of `knowledge_distillation`; of sparse targets, too.

    >>> student, teacher = torch.tensor([[2, -1, 0.5]]), torch.tensor([[1.0, 0, -1]])
    >>> targets = teacher.log_softmax(dim=1)
    >>> f"{KD(temperature=1.0)(student, targets, torch.tensor([0])):.4f}"
    '0.2781'
    """

    def __init__(self, temperature: float, *, standardize: bool = False) -> None:
        super().__init__("kd", temperature, standardize=standardize)


class DKD(SoftTargetLoss):
    """The loss of `decoupled_knowledge_distillation`; needs hard labels.

    Args:
        warmup_epochs: It grows over so many epochs: `set_epoch` then.
    """

    def __init__(
        self,
        temperature: float,
        *,
        target_weight: float = 1.0,
        other_weight: float = 8.0,
        warmup_epochs: int = 1,
        standardize: bool = False,
    ) -> None:
        settings = {"target_weight": target_weight, "other_weight": other_weight, "warmup_epochs": warmup_epochs}
        super().__init__("dkd", temperature, standardize=standardize, **settings)


class DIST(SoftTargetLoss):
    """The loss of `dist`, which compares the examples of a batch: another batch size is another
    loss.
    """

    def __init__(
        self,
        temperature: float,
        *,
        inter_class_weight: float = 1.0,
        intra_class_weight: float = 1.0,
        standardize: bool = False,
    ) -> None:
        settings = {"inter_class_weight": inter_class_weight, "intra_class_weight": intra_class_weight}
        super().__init__("dist", temperature, standardize=standardize, **settings)


class NKD(SoftTargetLoss):
    """The loss of `normalised_knowledge_distillation`; needs hard labels."""

    def __init__(self, temperature: float, *, gamma: float = 1.5, standardize: bool = False) -> None:
        super().__init__("nkd", temperature, standardize=standardize, gamma=gamma)


class CentredMSE(SoftTargetLoss):
    """The loss of `centred_mse`."""

    def __init__(self, temperature: float, *, standardize: bool = False) -> None:
        super().__init__("mse", temperature, standardize=standardize)


class BinaryKD(SoftTargetLoss):
    """The loss of `binary_distillation`: soft targets are log-odds, and hard labels rows of
    entries.

    >>> student, teacher = torch.tensor([[2, -1, 0.5]]), torch.tensor([[1.0, 0, -1]])
    >>> f"{BinaryKD(temperature=1.0)(student, teacher, torch.tensor([[1, 0, -1]])):.4f}"
    '0.4601'
    """

    def __init__(self, temperature: float) -> None:
        super().__init__("binary_kd", temperature, standardize=False)


class HardLabelLoss(Loss):
    """The cross-entropy with the hard labels, a mean over the batch, in nats.

    An example without a label (-1), or mixed with one that has none, counts 0. Where a label is a
    row of entries, classes are independent: the sum over the known entries of their binary
    cross-entropy.

    Args:
        label_smoothing: So much of a target's mass goes to all classes alike.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = need_number("label_smoothing", label_smoothing, least=0)

    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Any,
        hard_labels: Integer[Tensor, "_ ..."],
        partner_labels: Integer[Tensor, "_ ..."] | None = None,
        own_shares: Float[Tensor, " _"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the batch's mean loss; the soft targets are not looked at.

        Raises:
            DataError: A hard label is no class of the logits, or there are not as many of them.
        """
        if hard_labels.ndim > 2:
            found, fix = f"hard labels of shape {list(hard_labels.shape)}", "maps are for students' rows of params.yaml"
            raise DataError("HardLabelLoss", found, expected="a class, or a row of entries, for each view", fix=fix)
        need_same_classes(logits, None, hard_labels, "HardLabelLoss")
        for labels in (hard_labels, partner_labels):
            if labels is not None:
                need_classes(labels, logits.shape[1] if labels.ndim == 1 else 2, UNLABELLED, "HardLabelLoss")
        partners = None if partner_labels is None or own_shares is None else (partner_labels, own_shares)
        signal = SIGNALS["categorical" if hard_labels.ndim == 1 else "binary"]
        values = mixed_cross_entropy(
            _precise(logits), hard_labels, partners=partners, label_smoothing=self.label_smoothing, signal=signal
        )
        if partner_labels is not None:
            known = is_labelled(hard_labels) & is_labelled(partner_labels)
            values = values * known.to(values.device, values.dtype, non_blocking=True)
        return values.mean()

    def check(self, labels: Labels | str | Path) -> None:
        """Raises StoreError where there is no such store; it learns beside any labels."""
        as_labels(labels)


class Distillation(Loss):
    """The weighted sum that a student learns from.

        hard_weight * cross-entropy + soft_weight * loss of soft targets

    Args:
        loss: The loss of soft targets.
        label_smoothing: As for `HardLabelLoss`.

    >>> student, teacher = torch.tensor([[2, -1, 0.5]]), torch.tensor([[1.0, 0, -1]])
    >>> targets = teacher.log_softmax(dim=1)
    >>> f"{Distillation(KD(temperature=1.0))(student, targets, torch.tensor([0])):.4f}"
    '0.2597'
    """

    def __init__(
        self,
        loss: SoftTargetLoss,
        *,
        hard_weight: float = 0.5,
        soft_weight: float = 0.5,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        weights = {"hard_weight": hard_weight, "soft_weight": soft_weight}
        if not sum(need_number(f"Distillation: {name}", weight, least=0) for name, weight in weights.items()):
            found = f"hard_weight {hard_weight} and soft_weight {soft_weight}"
            raise ConfigError("Distillation", found, expected="numbers from 0 on, one of them above 0")
        self.soft, self.hard = loss, HardLabelLoss(label_smoothing)
        self.hard_weight, self.soft_weight = hard_weight, soft_weight

    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Targets,
        hard_labels: Integer[Tensor, "_ ..."],
        partner_labels: Integer[Tensor, "_ ..."] | None = None,
        own_shares: Float[Tensor, " _"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the batch's mean loss; raises what its parts do."""
        given = (logits, targets, hard_labels, partner_labels, own_shares)
        return torch.stack([weight * loss(*given) for weight, loss in self._parts()]).sum()

    def check(self, labels: Labels | str | Path) -> None:
        """Raises ConfigError where one of its parts can't learn from the labels of a store, or
        StoreError where these can't be had at its temperature.
        """
        labels = as_labels(labels)
        for _, loss in self._parts():
            loss.check(labels)

    def set_epoch(self, epoch: int) -> None:
        """Sets the number of the epoch, from 0, of the loss of soft targets."""
        self.soft.set_epoch(epoch)

    def _parts(self) -> list[tuple[float, Loss]]:
        """Returns the losses that count, each with its weight."""
        parts: list[tuple[float, Loss]] = [(self.hard_weight, self.hard), (self.soft_weight, self.soft)]
        return [(weight, loss) for weight, loss in parts if weight]


def _precise(logits: Tensor) -> Tensor:
    """Returns logits in float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
