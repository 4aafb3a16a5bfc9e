"""The work that a network is trained for, as the training loop sees it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Generic, TypeVar

import torch
from torch import nn

AnyBatch = TypeVar("AnyBatch")


class Task(ABC, Generic[AnyBatch]):
    """The batches of an epoch, the loss of one of them, and the measure of success.

    Each of several processes has the batches of its own share, and losses whose mean over the
    processes is that of the whole batch.

    Attributes:
        steps_per_epoch: The number of batches in an epoch, at least 1.
    """

    steps_per_epoch: int

    @abstractmethod
    def batches(self, epoch: int, start_step: int) -> Iterable[AnyBatch]:
        """Returns the batches of an epoch (from 0) from a step on."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: AnyBatch) -> torch.Tensor:
        """Returns the loss of a batch: a scalar, in nats."""

    @abstractmethod
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Returns the figures of a network on held-out samples.

        The first one, from 0 to 1, is that by which networks are compared.
        """


class WrappedTask(Task[AnyBatch]):
    """A task that does what another does; a subclass overrides the method in which it differs."""

    def __init__(self, task: Task[AnyBatch]) -> None:
        self.task = task
        self.steps_per_epoch = task.steps_per_epoch

    def batches(self, epoch: int, start_step: int) -> Iterable[AnyBatch]:
        return self.task.batches(epoch, start_step)

    def loss(self, model: nn.Module, batch: AnyBatch) -> torch.Tensor:
        return self.task.loss(model, batch)

    def validate(self, model: nn.Module) -> dict[str, float]:
        return self.task.validate(model)
