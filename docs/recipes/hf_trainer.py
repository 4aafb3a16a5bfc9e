"""A student in the Trainer of Hugging Face (`pip install 'transformers[torch]'`)."""

from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

import potstill
from potstill import losses


class Epochs(TrainerCallback):
    def on_epoch_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        others["train_dataloader"].dataset.set_epoch(int(state.epoch))  # another view of each image


class Distiller(Trainer):
    objective = losses.Distillation(losses.KD(temperature=2.0))

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **others: Any) -> torch.Tensor:
        loss = self.objective(model(inputs["view"].float() / 255), *inputs["labels"])
        self.values.append(loss.item())
        return loss


def collate(items: list[potstill.Item]) -> dict[str, Any]:
    batch = potstill.collate(items)
    return {"view": batch.view, "labels": batch.labels}  # Trainer moves dictionaries to its device


def train(student: nn.Module, data: str, store: str, epochs: int, batch_size: int) -> list[float]:
    dataset = potstill.DistillationDataset(data, potstill.open_labels(store), temperature=2.0)
    batches = {"per_device_train_batch_size": batch_size, "dataloader_drop_last": True}
    settings = TrainingArguments(num_train_epochs=epochs, learning_rate=1e-3, save_strategy="no", **batches)
    trainer = Distiller(student, settings, collate, dataset, callbacks=[Epochs()])
    trainer.values = []
    trainer.train()
    return trainer.values
