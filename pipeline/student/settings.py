"""The settings of a student: a row of the table `students` of params.yaml."""

from dataclasses import asdict, field, replace
from typing import Any

from pydantic.dataclasses import dataclass

from pipeline.core import bounds
from pipeline.core.bounds import MegabytesOrAuto, PositiveWeight, Seed, Share, ShareBelow1
from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError, suggest
from pipeline.core.names import check_names
from pipeline.labels.encodings import Codec, Encoding
from pipeline.models.devices import DeviceName
from pipeline.student.feature_losses import build_feature_loss
from pipeline.student.losses import build_loss
from pipeline.student.objective import FeaturePart, Objective
from pipeline.student.temperature import Temperature
from pipeline.student.weights import HALVES, AutoWeight, Pair
from pipeline.training.recipe import FitSettings
from pipeline.training.start import NetworkSettings, check_network


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainStudent(NetworkSettings):
    """A student's row: its network and start, its labels and losses, and how it is trained.

    `label_temperature` is that of the soft labels, `temperature` then that of the student alone;
    None: both have the same. With `new_views`, epochs beyond the stored views show others, beside
    the labels of stored ones.

    `features` names a store of the teacher's embeddings, which `feature_loss` compares with the
    student's own; both weights of labels may then be 0.
    """

    labels: str
    twin_of: str | None
    hard_weight: AutoWeight
    soft_weight: AutoWeight
    temperature: Temperature
    loss: dict[str, Any]
    label_smoothing: ShareBelow1
    class_balance: Share
    seed: Seed
    device: DeviceName
    memory_budget_mb: MegabytesOrAuto
    group: str | None
    fit: FitSettings
    label_temperature: bounds.Temperature | None = None
    new_views: bool = False
    features: str | None = None
    feature_weight: PositiveWeight = 1.0
    feature_loss: dict[str, Any] = field(default_factory=lambda: {"kind": "cosine"})

    @property
    def known_temperature(self) -> float:
        """The temperature as a number. Raises ConfigError where it is still to be chosen."""
        if self.temperature == "auto":
            raise ConfigError("a student's temperature", "auto", expected="a number here", fix="name one")
        return self.temperature

    @property
    def read_temperature(self) -> float | None:
        """The temperature that stored labels are read at; None: none are read."""
        if self.soft_weight == 0:
            return None
        return self.known_temperature if self.label_temperature is None else self.label_temperature

    @property
    def needs_hard_labels(self) -> bool:
        """Whether a sample without a hard label is of no use to it."""
        return self.soft_weight == 0 and self.features is None

    @property
    def learns_classes(self) -> bool:
        """Whether it learns from labels of classes at all."""
        return bool(self.hard_weight or self.soft_weight)

    def without_features(self) -> "TrainStudent":
        """Returns the row as it is used where no embeddings are at hand: it learns from labels
        alone, from hard ones if it has none.
        """
        return replace(self, features=None, hard_weight=self.hard_weight if self.learns_classes else 1.0)

    def recipe(self) -> dict[str, Any]:
        """Returns the settings that decide a student's weights: its group does not, nor how it
        would learn from features that it has not.
        """
        left_out = {"group"} if self.features else {"group", "features", "feature_weight", "feature_loss"}
        return {key: value for key, value in asdict(self).items() if key not in left_out}

    @property
    def known_weights(self) -> Pair:
        """The pair of weights. Raises ConfigError where they are still to be chosen."""
        if self.hard_weight == "auto" or self.soft_weight == "auto":
            raise ConfigError("a student's weights", "auto", expected="numbers here", fix="name both")
        return self.hard_weight, self.soft_weight

    @property
    def has_auto_weights(self) -> bool:
        """Whether trials are to choose the weights."""
        return "auto" in (self.hard_weight, self.soft_weight)

    def with_numbers(self, temperature: float) -> "TrainStudent":
        """Returns the row as a pilot begins: halves, and this temperature, where `auto` stands."""
        hard, soft = HALVES if self.has_auto_weights else self.known_weights
        known = temperature if self.temperature == "auto" else self.temperature
        return replace(self, hard_weight=hard, soft_weight=soft, temperature=known)

    def objective(self, temperature: float) -> Objective:
        """Returns the objective that the row describes, for soft targets at this temperature."""
        loss = build_loss(self.loss, "loss")
        part = None
        if self.features is not None:
            part = FeaturePart(self.feature_weight, build_feature_loss(self.feature_loss, "feature_loss"))
        return Objective(*self.known_weights, temperature, self.label_smoothing, loss, features=part)

    def check(self, where: str, table: dict[str, Any]) -> None:
        """Raises ConfigError where keys contradict each other.

        Args:
            table: All rows, among them the one that this student is a twin of.
        """
        if "teacher" in table:
            raise ConfigError(where.rsplit(".", 1)[0], "a student is named 'teacher'", expected="any other name")
        check_names([self.labels], f"{where}.labels")
        if self.has_auto_weights and self.hard_weight != self.soft_weight:
            found = f"hard_weight {self.hard_weight} and soft_weight {self.soft_weight}"
            raise ConfigError(where, found, expected="two numbers, or auto for both", fix="write auto twice")
        if not self.learns_classes and self.features is None:
            raise ConfigError(where, "hard_weight and soft_weight are both 0", expected="one of them above 0")
        self._check_features(where)
        self._check_temperatures(where)
        if self.fit.epochs == 0:
            raise ConfigError(f"{where}.fit.epochs", "0", expected="at least 1")
        check_network(self, self.fit, where)
        if self.twin_of is not None and self.twin_of not in table:
            raise ConfigError(f"{where}.twin_of", repr(self.twin_of), expected=suggest(self.twin_of, list(table)))
        self._check_twin(where, table)

    def _check_features(self, where: str) -> None:
        """Raises ConfigError where the keys of features do not go together."""
        build_feature_loss(self.feature_loss, f"{where}.feature_loss")
        if self.features is None:
            return
        check_names([self.features], f"{where}.features")
        if self.fit.compile:
            found, fix = "true, and it learns from features", "which compiled code does not give"
            raise ConfigError(f"{where}.fit.compile", found, expected="false", fix=fix)

    def _check_temperatures(self, where: str) -> None:
        """Raises ConfigError where the temperatures of student and labels do not go together."""
        loss = build_loss(self.loss, f"{where}.loss")
        if self.temperature == "auto" and self.soft_weight == 0:
            raise ConfigError(
                f"{where}.temperature", "auto, and soft_weight 0", expected="a number", fix="write any number"
            )
        if self.label_temperature is None or self.soft_weight == 0:
            return
        if self.temperature == "auto":
            found = f"{self.label_temperature:g}, and temperature: auto, which chooses one for labels and student"
            raise ConfigError(
                f"{where}.label_temperature", found, expected="null", fix="or write a number as temperature"
            )
        loss.check_label_temperature(f"{where}.label_temperature")

    def _check_twin(self, where: str, table: dict[str, Any]) -> None:
        """Raises ConfigError where it is the twin of a twin, or not the only twin."""
        if self.twin_of is None:
            return
        if _twin_of(table[self.twin_of]) is not None:
            found = f"{self.twin_of!r}, which is a twin itself"
            raise ConfigError(f"{where}.twin_of", found, expected="a student that is no twin")
        twins = [name for name, row in table.items() if _twin_of(row) == self.twin_of]
        if len(twins) > 1:
            found = f"{self.twin_of!r} has the twins {', '.join(twins)}"
            raise ConfigError(f"{where}.twin_of", found, expected="one", fix="copy the student for the other twin")

    def check_labels(self, encoding: Encoding, codec: Codec, mixes: bool, where: str) -> None:
        """Raises ConfigError or StoreError where it can't learn from the labels of its store.

        Args:
            mixes: Whether a view mixes two samples.
        """
        self.check_encoding(encoding, where)
        if self.soft_weight == 0:
            return
        if not encoding.fields(codec.space):
            found = f"{self.labels!r} holds no soft labels"
            raise ConfigError(f"{where}.labels", found, expected="soft_weight: 0 or another store")
        loss = build_loss(self.loss, f"{where}.loss")
        loss.check_signal(codec.space.signal_kind, f"{where}.loss")
        loss.check_labels(encoding.detail, f"store {self.labels!r} (encoding {encoding.kind})", f"{where}.loss")
        if codec.space.positions is not None:
            loss.check_positions(encoding.stride, f"{where}.loss")
        loss.check_views(mixes, f"{where}.loss")
        if mixes and self.new_views:
            found = (
                f"true, and each view of {self.labels!r} mixes two samples: a label is of the very two that it was of"
            )
            raise ConfigError(f"{where}.new_views", found, expected="false, or views that do not mix samples")
        loss.check_classes(codec.space.num_classes, f"{where}.loss")
        if self.temperature != "auto" and self.read_temperature is not None:
            codec.require(self.read_temperature)

    def check_encoding(self, encoding: Encoding, where: str) -> None:
        """Raises ConfigError where what its `labels` name holds embeddings."""
        if encoding.is_of_embeddings:
            found, fix = f"{self.labels!r}, a store of embeddings", "name it in `features`"
            raise ConfigError(f"{where}.labels", found, expected="a store of labels of classes, or of views", fix=fix)

    def check_data(self, num_unlabelled: int, where: str) -> None:
        """Raises ConfigError where its loss needs hard labels that some training samples lack."""
        if self.soft_weight:
            build_loss(self.loss, f"{where}.loss").check_data(num_unlabelled, f"{where}.loss")


def _twin_of(row: object) -> object:
    """Returns the student that a row of the table is a twin of; None where it is no map, too."""
    return row.get("twin_of") if isinstance(row, dict) else None
