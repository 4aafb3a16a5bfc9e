"""The task of a student: a store's labels on replayed views."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from pipeline.data.splits import Split
from pipeline.student.batches import LabelledBatch
from pipeline.student.labelled_views import LabelledViews
from pipeline.student.settings import TrainStudent
from pipeline.training.hard_labels import class_weights
from pipeline.training.task import Task
from pipeline.training.team import ALONE, Team
from pipeline.training.validation import Validation
from pipeline.views.maps import need_maps


class StudentTask(Task[LabelledBatch]):
    """The labels of a store on the views that its teacher saw."""

    def __init__(
        self,
        settings: TrainStudent,
        views: LabelledViews,
        val: Split,
        device: torch.device,
        team: Team = ALONE,
    ) -> None:
        self._settings, self._device, self._share = settings, device, team.share
        signal = views.signal
        if settings.hard_weight:
            need_maps(views.store.views, signal.kind, f"hard_weight {settings.hard_weight}")
        weights = class_weights(views.split.hard_labels, settings.class_balance, device, signal)
        objective = settings.objective(settings.known_temperature)
        self._objective = replace(objective, class_weights=weights, signal=signal)
        #: The views, with labels as the loss takes them quickest.
        self.views = views.blended(self._objective.blend)
        self._weight = team.share.weight(min(settings.fit.batch_size, views.num_samples))
        self._validation = Validation(val, views.joined.budget, device, team, signal)
        self.steps_per_epoch = views.steps_per_epoch(settings.fit.batch_size)

    def batches(self, epoch: int, start_step: int) -> Iterator[LabelledBatch]:
        size, seed = self._settings.fit.batch_size, self._settings.seed
        return self.views.batches(epoch, start_step, batch_size=size, seed=seed, share=self._share)

    def loss(self, model: nn.Module, batch: LabelledBatch) -> torch.Tensor:
        loss = self._objective(model, batch, self._device)
        return loss if self._weight == 1 else self._weight * loss

    def validate(self, model: nn.Module) -> dict[str, float]:
        return self._validation.measure(model)
