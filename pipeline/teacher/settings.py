"""The section `train_teacher` of params.yaml."""

from pydantic.dataclasses import dataclass

from pipeline.core.bounds import MegabytesOrAuto, Seed, Share, ShareBelow1
from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.models import is_fitted_at_once, is_for_inference_alone
from pipeline.models.devices import DeviceName
from pipeline.training.recipe import FitSettings
from pipeline.training.start import NetworkSettings, check_network
from pipeline.views.spec import ViewSpec


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainTeacher(NetworkSettings):
    """The network, what it starts from, and how it is trained.

    `teacher_classes` are what the outputs of `weights` are called (a list, or a file with one in a
    line), `class_map` says which of them make up a class of the data.
    """

    teacher_classes: str | list[str] | None
    class_map: dict[str, list[int | str]] | None
    seed: Seed
    device: DeviceName
    memory_budget_mb: MegabytesOrAuto
    label_smoothing: ShareBelow1
    class_balance: Share
    views: ViewSpec
    fit: FitSettings

    def check(self, where: str) -> None:
        """Raises ConfigError where keys contradict each other."""
        check_network(self, self.fit, where)
        if is_fitted_at_once(self.model):
            self._check_estimator(where)
        for key in ("teacher_classes", "class_map"):
            if getattr(self, key) is None:
                continue
            if self.new_head:
                raise ConfigError(
                    f"{where}.{key}", "given, and new_head: true", expected="null: a new head has the data's"
                )
            if self.weights is None and not is_for_inference_alone(self.model):
                raise ConfigError(
                    f"{where}.{key}", "given, and no weights", expected="null: it learns the data's classes"
                )

    def _check_estimator(self, where: str) -> None:
        """Raises ConfigError for settings of a loss and of views, which an estimator has not."""
        if self.views.operations:
            found = f"{len(self.views.operations)} operations, and an estimator is fitted on rows as they are"
            raise ConfigError(f"{where}.views.operations", found, expected="[]")
        for key in ("label_smoothing", "class_balance"):
            if getattr(self, key):
                fix = "give the estimator its own in model_settings (class_weight: balanced)"
                raise ConfigError(f"{where}.{key}", f"{getattr(self, key)}", expected="0.0", fix=fix)
