"""A student in a loop of Accelerate, on one device or many (`pip install accelerate`)."""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

import potstill
from potstill import losses


def train(student: nn.Module, data: str, store: str, epochs: int, batch_size: int) -> list[float]:
    """Trains a student on stored labels; returns the loss of each step."""
    accelerator = Accelerator()
    dataset = potstill.DistillationDataset(data, potstill.open_labels(store), temperature=2.0)
    loader = DataLoader(dataset, batch_size, shuffle=True, drop_last=True, collate_fn=potstill.collate)
    objective = losses.Distillation(losses.KD(dataset.temperature), hard_weight=0.5, soft_weight=0.5)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    student, optimizer, loader = accelerator.prepare(student.train(), optimizer, loader)
    values = []
    for epoch in range(epochs):
        dataset.set_epoch(epoch)  # another view of each image
        loader.set_epoch(epoch)  # else its own count is set instead, from 0 where a run goes on
        for batch in loader:
            loss = objective(student(batch.view.float() / 255), *batch.labels)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            values.append(loss.item())
    return values
