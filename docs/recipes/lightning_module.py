"""A student as a LightningModule (`pip install pytorch-lightning`)."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

import potstill


class Distilled(pl.LightningModule):
    """A student that learns from stored labels."""

    def __init__(self, student: nn.Module, dataset: potstill.DistillationDataset, batch_size: int) -> None:
        super().__init__()
        self.student, self.dataset, self.batch_size, self.values = student, dataset, batch_size, []
        self.objective = potstill.losses.Distillation(potstill.losses.KD(dataset.temperature))

    def train_dataloader(self) -> DataLoader:
        self.dataset.set_epoch(self.current_epoch)  # here, too: a run that goes on begins with its batches
        return DataLoader(self.dataset, self.batch_size, shuffle=True, drop_last=True, collate_fn=potstill.collate)

    def on_train_epoch_start(self) -> None:
        self.dataset.set_epoch(self.current_epoch)  # another view of each image

    def training_step(self, batch: potstill.Item, _: int) -> torch.Tensor:
        loss = self.objective(self.student(batch.view.float() / 255), *batch.labels)
        self.values.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.student.parameters(), lr=1e-3)


def train(student: nn.Module, data: str, store: str, epochs: int, batch_size: int) -> list[float]:
    dataset = potstill.DistillationDataset(data, potstill.open_labels(store), temperature=2.0)
    distilled = Distilled(student, dataset, batch_size)
    pl.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False).fit(distilled)
    return distilled.values
