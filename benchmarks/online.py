"""Online distillation, for comparison: the teacher runs in the student's training loop."""

from dataclasses import replace

import torch
from torch import nn

from pipeline.signals import Signal
from pipeline.signals.categorical import CATEGORICAL
from pipeline.student.batches import LabelledBatch
from pipeline.student.settings import TrainStudent
from pipeline.training.task import Task, WrappedTask


class OnlineTask(WrappedTask[LabelledBatch]):
    """A student's task with a teacher in the loop in place of stored labels."""

    def __init__(
        self,
        row: TrainStudent,
        task: Task[LabelledBatch],
        teacher: nn.Module,
        device: torch.device,
        signal: Signal = CATEGORICAL,
    ) -> None:
        super().__init__(task)
        self._row, self._teacher, self._device, self._signal = row, teacher.eval(), device, signal

    def loss(self, model: nn.Module, batch: LabelledBatch) -> torch.Tensor:
        inputs, temperature = batch.inputs.to(self._device), self._row.read_temperature
        assert temperature is not None, "it learns from soft labels"
        with torch.no_grad():
            targets = self._signal.quick_values(self._teacher(inputs).float(), temperature)
        return self.task.loss(model, replace(batch, inputs=inputs, soft_targets=targets))


class UnvalidatedTask(WrappedTask[LabelledBatch]):
    """A task that looks at no held-out sample while it trains: nothing is chosen by them."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        return {"accuracy": 0.0}
