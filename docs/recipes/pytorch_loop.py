"""A student in a plain PyTorch loop."""

import torch
from torch import nn
from torch.utils.data import DataLoader

import potstill
from potstill import losses


def scaled(views: torch.Tensor) -> torch.Tensor:
    """Returns pixels as the student takes them; it must not move them."""
    return views.float() / 255


def train(student: nn.Module, data: str, store: str, epochs: int, batch_size: int) -> list[float]:
    """Trains a student on stored labels; returns the loss of each step."""
    dataset = potstill.DistillationDataset(data, potstill.open_labels(store), temperature=2.0, normalise=scaled)
    loader = DataLoader(dataset, batch_size, shuffle=True, drop_last=True, collate_fn=potstill.collate)
    objective = losses.Distillation(losses.KD(dataset.temperature), hard_weight=0.5, soft_weight=0.5)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    student.train()
    values = []
    for epoch in range(epochs):
        dataset.set_epoch(epoch)  # another view of each image
        for batch in loader:
            loss = objective(student(batch.view), *batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(loss.item())
    return values
