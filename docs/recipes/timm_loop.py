"""A student in a loop like that of timm's train.py, with its augmentation off and ours on."""

from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, dispatch_clip_grad
from torch import nn

import potstill
from potstill import losses


def train(student: nn.Module, data: str, store: str, epochs: int, batch_size: int) -> list[float]:
    """Trains a student on stored labels; returns the loss of each step."""
    dataset = potstill.DistillationDataset(data, potstill.open_labels(store), temperature=2.0)
    # No augmentation of timm's, here or later (mixup_fn): labels are for the views as they are.
    off = {"no_aug": True, "use_prefetcher": False, "collate_fn": potstill.collate}
    loader = create_loader(dataset, tuple(dataset[0].view.shape), batch_size, is_training=True, num_workers=0, **off)
    objective = losses.Distillation(losses.KD(dataset.temperature))
    optimizer = create_optimizer_v2(student, opt="adamw", lr=1e-3, weight_decay=0.05)
    scheduler, epochs = create_scheduler_v2(optimizer, sched="cosine", num_epochs=epochs, warmup_epochs=1)
    average, values = ModelEmaV3(student, decay=0.99), []
    for epoch in range(epochs):
        dataset.set_epoch(epoch)  # another view of each image
        for batch in loader:
            loss = objective(student(batch.view.float() / 255), *batch.labels)
            optimizer.zero_grad()
            loss.backward()
            dispatch_clip_grad(student.parameters(), 1.0)
            optimizer.step()
            average.update(student)
            values.append(loss.item())
        scheduler.step(epoch + 1)
    return values
