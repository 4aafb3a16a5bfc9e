"""The speed of networks on this machine: real steps of the real training loop, on a few images,
timed.
"""

import io
import statistics
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import nn

from pipeline.core.errors import ModelError, PipelineError
from pipeline.core.shortage import is_out_of_memory
from pipeline.data.splits import SplitInMemory
from pipeline.doctor.load import Clock, idle_clock
from pipeline.labels.encodings import Codec
from pipeline.models.predict import predict_logits
from pipeline.signals import Signal
from pipeline.signals.categorical import CATEGORICAL
from pipeline.student.batches import LabelledBatch
from pipeline.student.settings import TrainStudent
from pipeline.training.recipe import FitSettings
from pipeline.training.run import Workplace
from pipeline.training.start import Start
from pipeline.training.task import Task
from pipeline.training.trainer import Trainer
from pipeline.views.plan import plan_view
from pipeline.views.spec import ViewSpec

_FIRST_IMAGES = 4
_SECONDS = 3.0  # that a batch may take; of a slower network the batch is smaller
_REPEATS = 3
_VIEW = 1  # not 0, which may be the image as it is
Run = Callable[[int], object]
Fields = Mapping[str, Shaped[torch.Tensor, "labels ..."]]
LabelledBatches = Callable[[int], LabelledBatch]


def image_seconds(run: Run, most: int) -> float:
    """Returns the seconds per image of `run` on `most` images at once, or on fewer where it is
    slow, as on an idle machine.

    Raises ModelError where it fails: a network of a library or of the user may raise anything.
    """
    with idle_clock() as clock:
        count = min(most, _FIRST_IMAGES)
        _timed(run, count, clock)  # what is done once: memory, the choice of a precision
        first = _timed(run, count, clock) / count
        if first * count > _SECONDS:
            return first
        count = max(count, min(most, int(_SECONDS / first)))
        repeats = _REPEATS if first * count * _REPEATS < _SECONDS else 1
        return statistics.median(_timed(run, count, clock) for _ in range(repeats)) / count


def _timed(run: Run, count: int, clock: Clock) -> float:
    start = clock.read()
    try:
        run(count)
    except PipelineError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"a batch of {count}", f"fails ({type(error).__name__}: {reason})") from error
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock.read() - start


def enlarge(split: SplitInMemory, count: int) -> SplitInMemory:
    """Returns so many samples, the same ones again and again where there are fewer."""
    rows = np.resize(np.arange(len(split)), count)
    return SplitInMemory(split.inputs[rows], split.hard_labels[rows], split.sample_ids[rows], split.content)


def forward_seconds(model: nn.Module, batches: LabelledBatches, batch_size: int, device: torch.device) -> float:
    """Returns the seconds that an image takes without gradients."""
    model = model.to(device)
    return image_seconds(lambda count: predict_logits(model, [batches(count).inputs], device), batch_size)


def labelled_batches(
    some: SplitInMemory, views: ViewSpec, settings: TrainStudent, codec: Codec, fields: Fields, device: torch.device
) -> LabelledBatches:
    """Returns a maker of student batches: views are rendered and labels decoded for each.

    Args:
        fields: Labels as a store keeps them, at least a batch of them.
    """
    temperature = settings.with_numbers(codec.space.temperature).read_temperature

    def batch(count: int) -> LabelledBatch:
        plan, every = plan_view(enlarge(some, count), views, _VIEW), slice(0, count)
        targets = None
        if temperature is not None:
            targets = codec.targets({key: values[:count].to(device) for key, values in fields.items()}, temperature)
        partners, shares = plan.partner_labels(every), plan.own_shares(every)
        return LabelledBatch(plan.render(every), plan.labels(every), partners, shares, targets)

    return batch


def hard_batches(some: SplitInMemory, views: ViewSpec) -> LabelledBatches:
    """Returns a maker of teacher batches: views are rendered for each, beside hard labels."""

    def batch(count: int) -> LabelledBatch:
        plan, every = plan_view(enlarge(some, count), views, _VIEW), slice(0, count)
        return LabelledBatch(plan.render(every), plan.labels(every))

    return batch


class _TimedTask(Task[LabelledBatch]):
    """A task without an end, whose batches the caller brings."""

    steps_per_epoch = 10**9

    def __init__(self, loss: Callable[[nn.Module, LabelledBatch], torch.Tensor]) -> None:
        self._loss = loss

    def batches(self, epoch: int, start_step: int) -> tuple[LabelledBatch, ...]:
        return ()

    def loss(self, model: nn.Module, batch: LabelledBatch) -> torch.Tensor:
        return self._loss(model, batch)

    def validate(self, model: nn.Module) -> dict[str, float]:
        return {}


@dataclass(frozen=True)
class Training:
    """The training of a network by its own recipe, on batches that are made on demand."""

    start: Start
    fit: FitSettings
    seed: int
    batches: LabelledBatches
    loss: Callable[[nn.Module, LabelledBatch], torch.Tensor]

    def image_seconds(self, device: torch.device, folder: Path) -> float:
        """Returns the seconds that an image takes in a step, all of the network trained.

        Args:
            folder: Where nothing is.
        """
        recipe = replace(self.fit, epochs=max(1, self.fit.epochs), freeze_epochs=0, accumulate_batches=1)
        task, head = _TimedTask(self.loss), self.start.head_for(recipe)
        run = Trainer(self.start.build(self.seed), task, recipe, Workplace(folder, device, self.start.where), head)
        run.begin_epoch()
        with redirect_stderr(io.StringIO()):  # it reports the precision that it chose
            return image_seconds(lambda count: run.step(self.batches(count)), self.fit.batch_size)


def hard_loss(
    label_smoothing: float, device: torch.device, signal: Signal = CATEGORICAL
) -> Callable[[nn.Module, LabelledBatch], torch.Tensor]:
    """Returns a loss that takes as long as the teacher's own."""

    def loss(model: nn.Module, batch: LabelledBatch) -> torch.Tensor:
        labels = batch.hard_labels.to(device)
        return signal.hard_loss(model(batch.inputs.to(device)), labels, label_smoothing).mean()

    return loss
