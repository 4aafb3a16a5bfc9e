"""How long networks take here: real steps of the real training loop, on a few images, timed."""

import io
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.core.errors import ModelError, PipelineError
from pipeline.data.splits import Split
from pipeline.labels.encodings import Codec
from pipeline.models.predict import predict_logits
from pipeline.student.batches import LabelledBatch
from pipeline.student.settings import TrainStudent
from pipeline.training.recipe import FitSettings
from pipeline.training.start import Start
from pipeline.training.trainer import Task, Trainer
from pipeline.views import ViewSpec
from pipeline.views.plan import plan_view

_FIRST_IMAGES = 4
_SECONDS = 3.0  # that a batch may take; of a slower network the batch is smaller
_REPEATS = 3
_VIEW = 1  # not 0, which may be the image as it is
Run = Callable[[int], object]
Fields = Mapping[str, Shaped[torch.Tensor, "labels ..."]]
LabelledBatches = Callable[[int], LabelledBatch]


def image_seconds(run: Run, most: int) -> float:
    """Seconds that `run` of `most` images at once takes for each; of fewer, where that is slow.

    Raises ModelError where it fails: a network of a library or of the user may raise anything.
    """
    count = min(most, _FIRST_IMAGES)
    _timed(run, count)  # what is done once: memory, the choice of a precision
    first = _timed(run, count) / count
    if first * count > _SECONDS:
        return first
    count = max(count, min(most, int(_SECONDS / first)))
    repeats = _REPEATS if first * count * _REPEATS < _SECONDS else 1
    return statistics.median(_timed(run, count) for _ in range(repeats)) / count


def _timed(run: Run, count: int) -> float:
    start = time.perf_counter()
    try:
        run(count)
    except (PipelineError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"a batch of {count}", f"fails ({type(error).__name__}: {reason})") from error
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def enlarge(split: Split, count: int) -> Split:
    """So many samples, the same ones again and again where there are fewer."""
    rows = np.resize(np.arange(len(split)), count)
    return Split(split.images[rows], split.hard_labels[rows], split.sample_ids[rows])


def forward_seconds(model: nn.Module, batches: LabelledBatches, batch_size: int, device: torch.device) -> float:
    """For each image, without gradients."""
    model = model.to(device)
    return image_seconds(lambda count: predict_logits(model, [batches(count).images], device), batch_size)


def labelled_batches(
    some: Split, views: ViewSpec, settings: TrainStudent, codec: Codec, fields: Fields, device: torch.device
) -> LabelledBatches:
    """Batches of a student: views rendered and labels decoded anew for each.

    Args:
        fields: Labels as a store keeps them, at least a batch of them.
    """
    temperature = codec.space.temperature if settings.temperature == "auto" else settings.known_temperature

    def batch(count: int) -> LabelledBatch:
        plan, every = plan_view(enlarge(some, count), views, _VIEW), slice(0, count)
        targets = None
        if settings.soft_weight:
            targets = codec.targets({key: values[:count].to(device) for key, values in fields.items()}, temperature)
        partners, shares = plan.partner_labels(every), plan.own_shares(every)
        return LabelledBatch(plan.render(every), plan.split.hard_labels, partners, shares, targets)

    return batch


def hard_batches(some: Split, views: ViewSpec) -> LabelledBatches:
    """Batches of a teacher: views rendered anew for each, and hard labels."""

    def batch(count: int) -> LabelledBatch:
        plan = plan_view(enlarge(some, count), views, _VIEW)
        return LabelledBatch(plan.render(slice(0, count)), plan.split.hard_labels)

    return batch


def training_seconds(
    start: Start,
    fit: FitSettings,
    seed: int,
    batches: LabelledBatches,
    loss: Callable[[nn.Module, LabelledBatch], torch.Tensor],
    device: torch.device,
    folder: Path,
) -> float:
    """For each image, in steps of the network's own recipe, all of it trained.

    Args:
        folder: Where nothing is.
    """
    task = Task(
        batches=lambda epoch, first: (),
        steps_per_epoch=10**9,
        loss=loss,
        pixels=lambda batch: batch.images,
        validate=lambda model: {},
    )
    recipe = replace(fit, epochs=max(1, fit.epochs), freeze_epochs=0, accumulate_batches=1)
    run = Trainer(start.build(seed), task, recipe, folder, device, "", start.head_for(recipe))
    run.begin_epoch()
    with redirect_stderr(io.StringIO()):  # what it says of the precision
        return image_seconds(lambda count: run.step(batches(count)), fit.batch_size)


def hard_loss(label_smoothing: float, device: torch.device) -> Callable[[nn.Module, LabelledBatch], torch.Tensor]:
    """What a teacher learns, near enough for the time that it takes."""

    def loss(model: nn.Module, batch: LabelledBatch) -> torch.Tensor:
        labels = batch.hard_labels.to(device).clamp(min=0)
        return cross_entropy(model(batch.images.to(device)), labels, label_smoothing=label_smoothing)

    return loss
