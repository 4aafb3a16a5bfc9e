"""Trials of the teacher and the students on a few images: whether they can be built, fit and be
trained, and how fast.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch
from torch import nn

from pipeline.core.errors import ModelError, placed
from pipeline.doctor.devices import find_device
from pipeline.doctor.findings import Findings
from pipeline.doctor.images import Look
from pipeline.doctor.labels import LabelStore
from pipeline.doctor.speed import (
    Training,
    forward_seconds,
    hard_batches,
    hard_loss,
    labelled_batches,
)
from pipeline.labelling.settings import DumpLabels
from pipeline.labelling.temporary import temporary_folder
from pipeline.models import Classifier, count_parameters, is_fitted_at_once, read_class_names
from pipeline.models.answers import SOME
from pipeline.models.forms import has_maps
from pipeline.models.predict import predict_logits
from pipeline.signals.chance import ENOUGH
from pipeline.student.batches import LabelledBatch
from pipeline.student.pilots import PILOT_STEPS
from pipeline.student.settings import TrainStudent
from pipeline.teacher.at_once import fit_at_once
from pipeline.teacher.outputs import ImportedOutputs
from pipeline.teacher.settings import TrainTeacher
from pipeline.training.batches import num_steps
from pipeline.training.recipe import FitSettings
from pipeline.training.start import NetworkSettings, Start, WeightClasses, origins
from pipeline.views.maps import need_maps

_AT_ONCE = 50  # images


@dataclass(frozen=True)
class ImageSeconds:
    """The seconds that one image takes: in a training step, and forward alone."""

    training: float
    forward: float

    def of_training(self, fit: FitSettings, num_train: int, num_val: int) -> float:
        """Returns the seconds of a whole training, validation after each epoch included."""
        images = num_steps(num_train, fit.batch_size) * fit.batch_size
        return fit.epochs * (images * self.training + num_val * self.forward)

    def of_pilot(self, batch_size: int, num_train: int, num_val: int) -> float:
        """Returns the seconds of a short trial."""
        images = min(num_steps(num_train, batch_size), PILOT_STEPS) * batch_size
        return images * self.training + num_val * self.forward


@dataclass(frozen=True)
class NetworkCheck(ABC):
    """A try of a network on a few images; `where` names its place in params.yaml."""

    settings: TrainTeacher | TrainStudent
    look: Look
    where: str

    @abstractmethod
    def start(self, folder: Path) -> Start:
        """Returns the network before its first step; raises PipelineError where it does not fit."""

    @abstractmethod
    def measure(self, start: Start, model: Classifier, device: torch.device, folder: Path) -> ImageSeconds:
        """Returns the seconds that an image takes; raises ModelError where a batch fails."""

    def run(self, findings: Findings) -> ImageSeconds | None:
        """Reports what the network is and its speed; returns None where it can't be used."""
        device = findings.attempt(find_device, self.settings.device, self.where)
        return findings.attempt(self._try, device, findings)

    def _try(self, device: torch.device | None, findings: Findings) -> ImageSeconds | None:
        with temporary_folder() as folder:
            start = self.start(folder)
            model = self._build(start)
            if device is None:
                return None
            cost = self._timed(start, model, device, folder / "run")
            findings.ok(f"{self.where}: {_describe(self.settings, start, model)}; {_rates(cost, self.look.things)}")
            self._check_knowledge(start, model, findings)
            return cost

    def _build(self, start: Start) -> Classifier:
        """Returns the network; raises PipelineError where it can't be relied on."""
        model = start.build(self.settings.seed)
        start.check(model, self.look.some.first(SOME))
        return model

    def _timed(self, start: Start, model: Classifier, device: torch.device, folder: Path) -> ImageSeconds:
        with placed(self.where):
            return self.measure(start, model, device, folder)

    def _check_knowledge(self, start: Start, model: Classifier, findings: Findings) -> None:
        """Reports weights that are taken as they are and know nothing of these images."""
        some = self.look.some.labelled()
        if start.weights is None or self.settings.new_head or len(some) < ENOUGH:
            return
        device = next(iter(model.buffers())).device
        logits = predict_logits(model, some.in_order(_AT_ONCE), device)
        outputs = ImportedOutputs(
            f"model {self.settings.model!r}", start.meta.class_names, start.meta.class_groups, self.look.signal
        )
        try:
            outputs.check(logits, some.hard_labels)
        except ModelError as fault:
            findings.warning(fault)


@final
@dataclass(frozen=True)
class TeacherCheck(NetworkCheck):
    """A try of the teacher, whose forward pass is timed as it labels views."""

    settings: TrainTeacher
    dump: DumpLabels

    def start(self, folder: Path) -> Start:
        settings, where = self.settings, self.where
        settings.views.check(self.look.data.image_shape, f"{where}.views", self.look.data.kind)
        need_maps(settings.views, self.look.data.signal, f"{where}.views")
        origins(settings, where)
        names = read_class_names(settings.teacher_classes, f"{where}.teacher_classes")
        classes = WeightClasses(names, settings.class_map)
        start = Start.of(settings, self.look.data, folder, where, classes, self.look.folder)
        if is_fitted_at_once(settings.model):
            with placed(where):
                fit_at_once(start.meta, self.look.some.labelled(), None, folder, settings.seed)
        return start

    def measure(self, start: Start, model: Classifier, device: torch.device, folder: Path) -> ImageSeconds:
        settings, some = self.settings, self.look.some
        forward = forward_seconds(model, hard_batches(some, self.dump.views), self.dump.batch_size, device)
        if settings.fit.epochs == 0:
            return ImageSeconds(0.0, forward)
        batches, loss = (
            hard_batches(some, settings.views),
            hard_loss(settings.label_smoothing, device, self.look.signal),
        )
        training = Training(start, settings.fit, settings.seed, batches, loss)
        return ImageSeconds(training.image_seconds(device, folder), forward)


@final
@dataclass(frozen=True)
class StudentCheck(NetworkCheck):
    """A try of a student, which learns from made-up labels."""

    settings: TrainStudent
    store: LabelStore

    def start(self, folder: Path) -> Start:
        origins(self.settings, self.where)
        return Start.of(self.settings, self.look.data, folder, self.where, prepared=self.look.folder)

    def measure(self, start: Start, model: Classifier, device: torch.device, folder: Path) -> ImageSeconds:
        row, store = self.settings.without_features(), self.store
        tried = row.with_numbers(1.0)
        objective = replace(tried.objective(tried.known_temperature), signal=self.look.signal)
        labels = store.labels(row.fit.batch_size)
        batches = labelled_batches(self.look.some, store.views, row, store.codec, labels, device)

        def loss(model: nn.Module, batch: LabelledBatch) -> torch.Tensor:
            return objective(model, batch, device)

        training = Training(start, row.fit, row.seed, batches, loss)
        seconds = training.image_seconds(device, folder)
        return ImageSeconds(seconds, forward_seconds(model, batches, row.fit.batch_size, device))


def _describe(settings: NetworkSettings, start: Start, model: Classifier) -> str:
    """Returns what the network is, what it starts from, and how its outputs become classes."""
    meta, count = start.meta, len(start.meta.class_names)
    parts = [f"{settings.model}, {count_parameters(model):,} parameters"]
    if start.weights is not None:
        head = ", all but the head" if settings.new_head else ""
        parts.append(f"starts from {start.weights.where}{head}")
    if meta.size_px:
        parts.append(f"images resized to {meta.size_px[0]} x {meta.size_px[1]}")
    where = " at each pixel" if has_maps(model.signal) else ""
    if meta.class_groups is None:
        parts.append(f"{count} outputs{where}, one for each class in its order")
    else:
        used = sum(map(len, meta.class_groups))
        parts.append(
            f"{used} of its {meta.num_outputs} outputs{where} stand for the {count} classes, by name or class_map"
        )
    return ", ".join(parts)


def _rates(cost: ImageSeconds, things: str) -> str:
    trained = f"trains on about {1 / cost.training:,.0f} {things} a second and " if cost.training else ""
    return f"{trained}runs on about {1 / cost.forward:,.0f}" + ("" if trained else f" {things} a second")
