"""Online distillation, for comparison: the teacher runs in the student's training loop."""

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.signals.losses import cross_entropy
from pipeline.student.batches import LabelledBatch
from pipeline.student.losses.kd import knowledge_distillation
from pipeline.student.settings import TrainStudent
from pipeline.training.task import Task, WrappedTask


class OnlineTask(WrappedTask[LabelledBatch]):
    """A student's task with a teacher in the loop in place of stored labels."""

    def __init__(self, row: TrainStudent, task: Task[LabelledBatch], teacher: nn.Module, device: torch.device) -> None:
        super().__init__(task)
        self._row, self._teacher, self._device = row, teacher.eval(), device

    def loss(self, model: nn.Module, batch: LabelledBatch) -> torch.Tensor:
        images, temperature = batch.inputs.to(self._device), self._row.read_temperature
        assert temperature is not None, "it learns from soft labels"
        with torch.no_grad():
            log_targets = F.log_softmax(self._teacher(images) / temperature, dim=1)
        logits = model(images)
        soft = knowledge_distillation(logits, log_targets, temperature=self._row.known_temperature)
        hard = cross_entropy(logits, batch.hard_labels.to(self._device))
        hard_weight, soft_weight = self._row.known_weights
        return (hard_weight * hard + soft_weight * soft).mean()


class UnvalidatedTask(WrappedTask[LabelledBatch]):
    """A task that looks at no held-out sample while it trains: nothing is chosen by them."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        return {"accuracy": 0.0}
