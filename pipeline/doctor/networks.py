"""Teacher and students on a few of the images: whether they can be built, fit these and can be trained, and how fast."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.core.errors import ModelError
from pipeline.doctor.findings import Findings
from pipeline.doctor.images import Look
from pipeline.doctor.labels import Store
from pipeline.doctor.speed import (
    forward_seconds,
    hard_batches,
    hard_loss,
    labelled_batches,
    training_seconds,
)
from pipeline.labelling.settings import DumpLabels
from pipeline.models import Classifier, count_parameters, read_class_names
from pipeline.models.devices import choose_device
from pipeline.models.predict import predict_logits
from pipeline.student.settings import TrainStudent
from pipeline.student.temperature import PILOT_STEPS
from pipeline.teacher.chance import check_above_chance
from pipeline.teacher.settings import TrainTeacher
from pipeline.training.batches import num_steps
from pipeline.training.recipe import FitSettings
from pipeline.training.start import NetworkSettings, Start, origins

_AT_ONCE = 50  # images
_ENOUGH = 50  # images, to tell chance from knowledge


@dataclass(frozen=True)
class Cost:
    """Seconds for an image: in a training step, and forward alone."""

    training: float
    forward: float

    def of_training(self, fit: FitSettings, num_train: int, num_val: int) -> float:
        """Seconds of a whole training, with a look at the validation split after each epoch."""
        images = num_steps(num_train, fit.batch_size) * fit.batch_size
        return fit.epochs * (images * self.training + num_val * self.forward)

    def of_pilot(self, fit: FitSettings, num_train: int, num_val: int) -> float:
        """Seconds of a trial of one temperature."""
        images = min(num_steps(num_train, fit.batch_size), PILOT_STEPS) * fit.batch_size
        return images * self.training + num_val * self.forward


def try_teacher(settings: TrainTeacher, dump: DumpLabels, look: Look, where: str, findings: Findings) -> Cost | None:
    """What it costs, forward as it labels views; None where it can't be used, which is told."""

    def begin(folder: Path) -> Start:
        settings.views.check(look.data.image_shape, f"{where}.views")
        origins(settings, where)
        names = read_class_names(settings.teacher_classes, f"{where}.teacher_classes")
        return Start.of(settings, look.data, {}, folder, where, output_names=names, class_map=settings.class_map)

    def measure(start: Start, model: Classifier, device: torch.device, folder: Path) -> Cost:
        forward = forward_seconds(model, hard_batches(look.some, dump.views), dump.batch_size, device)
        if settings.fit.epochs == 0:
            return Cost(0.0, forward)
        batches, loss = hard_batches(look.some, settings.views), hard_loss(settings.label_smoothing, device)
        return Cost(training_seconds(start, settings.fit, settings.seed, batches, loss, device, folder), forward)

    return _try(settings, settings.seed, settings.device, begin, measure, where, look, findings)


def try_student(row: TrainStudent, store: Store, look: Look, where: str, findings: Findings) -> Cost | None:
    """The same of a student, which learns from made-up labels."""

    def begin(folder: Path) -> Start:
        origins(row, where)
        return Start.of(row, look.data, {}, folder, where)

    def measure(start: Start, model: Classifier, device: torch.device, folder: Path) -> Cost:
        objective = row.objective(1.0 if row.temperature == "auto" else row.known_temperature)
        labels = store.labels(row.fit.batch_size)
        batches = labelled_batches(look.some, store.views, row, store.codec, labels, device)
        seconds = training_seconds(
            start, row.fit, row.seed, batches, lambda model, batch: objective(model, batch, device), device, folder
        )
        return Cost(seconds, forward_seconds(model, batches, row.fit.batch_size, device))

    return _try(row, row.seed, row.device, begin, measure, where, look, findings)


def _try(
    settings: NetworkSettings,
    seed: int,
    device_name: str,
    begin: Callable[[Path], Start],
    measure: Callable[[Start, Classifier, torch.device, Path], Cost],
    where: str,
    look: Look,
    findings: Findings,
) -> Cost | None:
    device = findings.attempt(choose_device, device_name)
    with tempfile.TemporaryDirectory() as name:
        start = findings.attempt(begin, Path(name))
        model = findings.attempt(start.build, seed) if start else None
        cost = None
        if device and start and model:
            cost = findings.attempt(measure, start, model, device, Path(name, "run"))
        if cost and start and model:
            findings.ok(f"{where}: {_describe(settings, start, model)}; {_rates(cost)}")
            _check_knowledge(start, model, look, settings, findings)
        return cost


def _describe(settings: NetworkSettings, start: Start, model: Classifier) -> str:
    """What it is, what it starts from, and how its outputs become classes."""
    meta, count = start.meta, len(start.meta.class_names)
    parts = [f"{settings.model}, {count_parameters(model):,} parameters"]
    if start.weights is not None:
        head = ", all but the head" if settings.new_head else ""
        parts.append(f"starts from {start.weights.where}{head}")
    if meta.size_px:
        parts.append(f"images resized to {meta.size_px[0]} x {meta.size_px[1]}")
    if meta.class_groups is None:
        parts.append(f"{count} outputs, one for each class in its order")
    else:
        used = sum(map(len, meta.class_groups))
        parts.append(f"{used} of its {meta.num_outputs} outputs stand for the {count} classes, by name or class_map")
    return ", ".join(parts)


def _rates(cost: Cost) -> str:
    trained = f"trains on about {1 / cost.training:,.0f} images a second and " if cost.training else ""
    return f"{trained}runs on about {1 / cost.forward:,.0f}" + ("" if trained else " images a second")


def _check_knowledge(
    start: Start, model: Classifier, look: Look, settings: NetworkSettings, findings: Findings
) -> None:
    """Tells of weights that are taken as they are and know nothing of these images."""
    some = look.some.labelled()
    if start.weights is None or settings.new_head or len(some) < _ENOUGH:
        return
    device = next(iter(model.buffers())).device
    logits = predict_logits(model, some.images.split(_AT_ONCE), device)
    try:
        check_above_chance(logits, some.hard_labels, f"model {settings.model!r}")
    except ModelError as fault:
        findings.warning(fault)
