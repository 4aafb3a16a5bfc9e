"""train_teacher: data/prepare -> data/train_teacher (weights, accuracy, calibration temperature).

`torchrun --nproc-per-node 4 -m stages.train_teacher` trains it on four GPUs, each with its share of every batch.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import nn

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_section
from pipeline.core.errors import DataError
from pipeline.core.progress import say
from pipeline.core.scratch import Scratch
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.opening import open_splits
from pipeline.data.paging import Paging
from pipeline.data.splits import Split
from pipeline.models import Classifier, load_weights, read_class_names
from pipeline.models.devices import check_compiler, choose_device, has_room
from pipeline.models.predict import predict_logits
from pipeline.models.saved import write_model
from pipeline.signals.losses import cross_entropy
from pipeline.signals.metrics import classification_metrics
from pipeline.teacher.calibration import fit_temperature
from pipeline.teacher.chance import check_above_chance
from pipeline.teacher.settings import TrainTeacher
from pipeline.training.batches import Batch, num_steps
from pipeline.training.epochs import Epoch
from pipeline.training.fit import fit, write_reports
from pipeline.training.start import Start, origins
from pipeline.training.team import ALONE, Team, one_voice
from pipeline.training.trainer import Task

EVAL_BATCH_SIZE = 500


@one_voice()
def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    out: Path = Path("data/train_teacher"),
    reports: Path = Path("reports"),
    work: Path = Path("work"),
) -> None:
    settings = load_section(TrainTeacher, "train_teacher", params)
    where = f"{params}: train_teacher"
    settings.check(where)
    output_names = read_class_names(settings.teacher_classes, f"{where}.teacher_classes")
    team = Team.of(os.environ)
    device = choose_device(settings.device, team.local_rank)
    if settings.fit.compile:
        check_compiler(device, f"{where}.fit.compile")
    team.connect(device, settings.fit.batch_size, where)
    dataset = ImageDataset(data)
    manifest = dataset.manifest
    settings.views.check(manifest.image_shape, f"{where}.views")
    decides = {
        "settings": (recipe := asdict(settings)),
        "origins": origins(settings, where),
        "output_names": output_names,
        "data": manifest.fingerprints,
        "device": device.type,
    }
    scratch = Scratch(
        out,
        decides,
        work,
        [reports / "train_teacher.json", reports / "train_teacher.tsv"],
        code=Path(__file__),
    )
    with team.open(scratch) as unfinished:
        if not unfinished:
            return
        images = Images.open(dataset, settings, device, where)
        begin = team.ask_first(
            lambda: Start.of(
                settings,
                manifest,
                recipe,
                scratch.output,
                where,
                output_names=output_names,
                class_map=settings.class_map,
            )
        )
        model, head = begin.build(settings.seed), begin.head_for(settings.fit)
        torch.manual_seed(settings.seed + team.rank)  # of dropout and the like
        task = teacher_task(settings, images, device, team)
        result = fit(model, task, settings.fit, scratch.folder, device, "train_teacher", head, team)
        if not team.is_first:
            return
        load_weights(model, result.last, scratch.folder)
        figures = _calibrate(model, images, device, f"model {settings.model!r}" if begin.weights else None)
        meta = begin.meta.trained(result.state.precision, figures)
        write_model(scratch.output, meta, result.last)
        write_reports(reports / "train_teacher", result, {"val": figures})
        scratch.publish()


class Images(NamedTuple):
    """What it learns from: in memory, there perhaps on the device, or on disk."""

    train: Split
    val: Split
    budget: MemoryBudget

    @classmethod
    def open(cls, dataset: ImageDataset, settings: TrainTeacher, device: torch.device, where: str) -> "Images":
        """Training images without a hard label are left out."""
        where = f"{where}.memory_budget_mb"
        budget = MemoryBudget.of_megabytes(settings.memory_budget_mb, settings.fit.batch_size, where)
        train, val = open_splits(dataset, budget, 0)
        train = train.labelled()
        if len(train) == 0:
            raise DataError(dataset.folder, "no training image has a hard label", expected="some, to learn from")
        return cls(train.to(device) if has_room(device, train.held_bytes) else train, val, budget)

    @property
    def paging(self) -> Paging:
        """How an epoch goes through them; raises ConfigError where the budget is too small for that."""
        return self.train.paging(self.budget)

    def val_batches(self, places: slice = slice(None)) -> Iterator[UInt8[torch.Tensor, "_ ..."]]:
        """Validation images as they are, all or those of some consecutive rows."""
        return self.val.in_order(EVAL_BATCH_SIZE, places, self.budget)


def teacher_task(settings: TrainTeacher, images: Images, device: torch.device, team: Team = ALONE) -> Task[Batch]:
    """What a teacher learns: the hard labels of views, a new one in each epoch, judged by the validation split."""
    train, val, paging, batch_size = images.train, images.val, images.paging, settings.fit.batch_size
    weight = team.share.weight(min(batch_size, len(train)))

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        logits = model(batch.inputs.to(device, non_blocking=True))
        return weight * _cross_entropy(logits, batch, settings.label_smoothing).mean()

    def validate(model: nn.Module) -> dict[str, float]:
        own = images.val_batches(team.share.of(len(val)))
        return classification_metrics(team.join_rows(predict_logits(model, own, device), len(val)), val.hard_labels)

    return Task(
        batches=lambda epoch, start_step: Epoch(
            train,
            settings.views,
            view=epoch,
            number=epoch,
            batch_size=batch_size,
            seed=settings.seed,
            share=team.share,
            paging=paging,
            device=device,
        ).batches(start_step),
        steps_per_epoch=num_steps(len(train), batch_size),
        loss=loss,
        pixels=lambda batch: batch.inputs,
        validate=validate,
    )


def _cross_entropy(logits: torch.Tensor, batch: Batch, label_smoothing: float) -> torch.Tensor:
    """Per example; of a view that is mixed of two images, that of both classes, weighted by the images' shares."""
    device = logits.device
    own = cross_entropy(logits, batch.hard_labels.to(device, non_blocking=True), label_smoothing=label_smoothing)
    if batch.partner_labels is None or batch.own_shares is None:
        return own
    labels = batch.partner_labels.to(device, non_blocking=True)
    shares = batch.own_shares.to(device, non_blocking=True)
    return shares * own + (1 - shares) * cross_entropy(logits, labels, label_smoothing=label_smoothing)


def _calibrate(model: Classifier, images: Images, device: torch.device, imported: str | None) -> dict[str, Any]:
    """Its figures on the validation split; one that was `imported`, under that name, must know something of it."""
    logits, hard_labels = predict_logits(model, images.val_batches(), device), images.val.hard_labels
    if imported:
        check_above_chance(logits, hard_labels, imported)
    temperature = fit_temperature(logits, hard_labels)
    before = classification_metrics(logits, hard_labels)
    after = classification_metrics(logits / temperature, hard_labels)
    say(
        f"train_teacher: val accuracy {before['accuracy']:.2%}, calibration temperature {temperature:.3f}: "
        f"NLL {before['nll']:.4f} -> {after['nll']:.4f}, ECE {before['ece']:.4f} -> {after['ece']:.4f}"
    )
    calibrated = {"nll": after["nll"], "ece": after["ece"], "brier": after["brier"]}
    return {**before, "calibration_temperature": temperature, "calibrated": calibrated}


if __name__ == "__main__":
    run_stage(main)
