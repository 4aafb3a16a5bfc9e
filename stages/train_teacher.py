"""train_teacher: data/prepare -> data/train_teacher (weights, accuracy, calibration temperature).

`torchrun --nproc-per-node 4 -m stages.train_teacher` trains it on four GPUs, each with its share of every batch.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.artifacts import Scratch, say
from pipeline.batches import Batch, num_steps, plain_batches, training_batches
from pipeline.calibration import fit_temperature
from pipeline.chance import check_above_chance
from pipeline.config import PARAMS, load_section
from pipeline.datasets import ImageDataset, Split
from pipeline.devices import choose_device, has_room
from pipeline.distributed import ALONE, Team, one_voice
from pipeline.inference import predict_logits
from pipeline.losses import cross_entropy
from pipeline.metrics import classification_metrics
from pipeline.model_files import write_model
from pipeline.models import Classifier, load_weights, read_class_names
from pipeline.sections.train_teacher import TrainTeacher
from pipeline.trainer import Task
from pipeline.training import fit, write_reports
from pipeline.transfer import Start, origins
from stages import run_stage

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
    scratch = Scratch(out, decides, work, [reports / "train_teacher.json", reports / "train_teacher.tsv"])
    with team.open(scratch) as unfinished:
        if not unfinished:
            return
        train, val = dataset.split("train").labelled(), dataset.split("val")
        if has_room(device, train.images.nbytes):
            train = train.to(device)
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
        task = _task(settings, train, val, device, team)
        result = fit(model, task, settings.fit, scratch.folder, device, "train_teacher", head, team)
        if not team.is_first:
            return
        load_weights(model, result.last, scratch.folder)
        figures = _calibrate(model, val, device, f"model {settings.model!r}" if begin.weights else None)
        meta = begin.meta.trained(result.state.precision, figures)
        write_model(scratch.output, meta, result.last)
        write_reports(reports / "train_teacher", result, {"val": figures})
        scratch.publish()


def _task(settings: TrainTeacher, train: Split, val: Split, device: torch.device, team: Team = ALONE) -> Task[Batch]:
    batch_size = settings.fit.batch_size
    weight = team.share.weight(min(batch_size, len(train)))

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        logits = model(batch.images.to(device, non_blocking=True))
        return weight * _cross_entropy(logits, batch, settings.label_smoothing).mean()

    def validate(model: nn.Module) -> dict[str, float]:
        own = plain_batches(val, EVAL_BATCH_SIZE, team.share)
        return classification_metrics(team.join_rows(predict_logits(model, own, device), len(val)), val.hard_labels)

    return Task(
        batches=lambda epoch, start_step: training_batches(
            train,
            settings.views,
            view=epoch,
            epoch=epoch,
            batch_size=batch_size,
            seed=settings.seed,
            start_step=start_step,
            share=team.share,
        ),
        steps_per_epoch=num_steps(len(train), batch_size),
        loss=loss,
        pixels=lambda batch: batch.images,
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


def _calibrate(model: Classifier, val: Split, device: torch.device, imported: str | None) -> dict[str, Any]:
    """Its figures on the validation split; one that was `imported`, under that name, must know something of it."""
    logits = predict_logits(model, plain_batches(val, EVAL_BATCH_SIZE), device)
    if imported:
        check_above_chance(logits, val.hard_labels, imported)
    temperature = fit_temperature(logits, val.hard_labels)
    before = classification_metrics(logits, val.hard_labels)
    after = classification_metrics(logits / temperature, val.hard_labels)
    say(
        f"train_teacher: val accuracy {before['accuracy']:.2%}, calibration temperature {temperature:.3f}: "
        f"NLL {before['nll']:.4f} -> {after['nll']:.4f}, ECE {before['ece']:.4f} -> {after['ece']:.4f}"
    )
    calibrated = {"nll": after["nll"], "ece": after["ece"], "brier": after["brier"]}
    return {**before, "calibration_temperature": temperature, "calibrated": calibrated}


if __name__ == "__main__":
    run_stage(main)
