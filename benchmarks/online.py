"""Online distillation, for comparison: the teacher runs in the student's training loop."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.signals.losses import cross_entropy
from pipeline.student.batches import LabelledBatch
from pipeline.student.losses.kd import knowledge_distillation
from pipeline.student.settings import TrainStudent
from pipeline.training.trainer import Task


def with_teacher(
    row: TrainStudent, task: Task[LabelledBatch], teacher: nn.Module, device: torch.device
) -> Task[LabelledBatch]:
    """Returns the task with a teacher in the loop in place of stored labels."""
    teacher.eval()

    def loss(model: nn.Module, batch: LabelledBatch) -> torch.Tensor:
        images = batch.inputs.to(device)
        with torch.no_grad():
            log_targets = F.log_softmax(teacher(images) / row.known_temperature, dim=1)
        logits = model(images)
        soft = knowledge_distillation(logits, log_targets, temperature=row.known_temperature)
        return (row.hard_weight * cross_entropy(logits, batch.hard_labels.to(device)) + row.soft_weight * soft).mean()

    return replace(task, loss=loss)
