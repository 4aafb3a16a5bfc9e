"""train_teacher: data/prepare -> data/train_teacher (weights, accuracy, calibration temperature)."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass
from torch import nn

from pipeline.artifacts import Scratch, file_fingerprint, read_tensors, say
from pipeline.batches import Batch, num_steps, plain_batches, training_batches
from pipeline.calibration import fit_temperature
from pipeline.config import PARAMS, STRICT, load_section
from pipeline.datasets import ImageDataset, Split
from pipeline.devices import DeviceName, choose_device
from pipeline.errors import ConfigError
from pipeline.inference import predict_logits
from pipeline.losses import cross_entropy
from pipeline.metrics import classification_metrics
from pipeline.model_files import ModelMeta, write_model
from pipeline.models import Classifier, load_weights
from pipeline.recipe import FitSettings
from pipeline.training import Task, fit, write_reports
from pipeline.views import ViewSpec
from stages import run_stage

EVAL_BATCH_SIZE = 500


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainTeacher:
    """The section `train_teacher`."""

    model: str
    model_settings: dict[str, Any]
    weights: str | None
    seed: NonNegativeInt
    device: DeviceName
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    views: ViewSpec
    fit: FitSettings


def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    out: Path = Path("data/train_teacher"),
    reports: Path = Path("reports"),
    work: Path = Path("work"),
) -> None:
    settings = load_section(TrainTeacher, "train_teacher", params)
    if settings.fit.epochs == 0 and settings.weights is None:
        raise ConfigError(
            f"{params}: train_teacher", "epochs: 0 and no weights", expected="epochs, or weights to import"
        )
    device = choose_device(settings.device)
    dataset = ImageDataset(data)
    manifest = dataset.manifest
    settings.views.check(manifest.image_shape, f"{params}: train_teacher.views")
    decides = {
        "settings": (recipe := asdict(settings)),
        "weights": _weights_fingerprint(settings, params),
        "data": manifest.fingerprints,
        "device": device.type,
    }
    with Scratch(out, decides, work, [reports / "train_teacher.json", reports / "train_teacher.tsv"]) as scratch:
        if scratch.done:
            return
        train, val = dataset.split("train"), dataset.split("val")
        meta = ModelMeta.untrained(settings.model, settings.model_settings, manifest, recipe)
        model = meta.build(settings.seed)
        if settings.weights is not None:
            load_weights(model, _read_weights(Path(settings.weights), model), settings.weights)
        torch.manual_seed(settings.seed)  # of dropout and the like
        result = fit(model, _task(settings, train, val, device), settings.fit, scratch.folder, device, "train_teacher")
        load_weights(model, result.last, scratch.folder)
        figures = _calibrate(model, val, device)
        meta = meta.trained(result.state.precision, figures)
        write_model(scratch.output, meta, result.last)
        write_reports(reports / "train_teacher", result, {"val": figures})
        scratch.publish()


def _weights_fingerprint(settings: TrainTeacher, params: Path) -> str | None:
    if settings.weights is None:
        return None
    path = Path(settings.weights)
    if not path.is_file():
        raise ConfigError(f"{params}: train_teacher.weights", f"{path}: no such file", expected="a .safetensors file")
    return file_fingerprint(path)


def _read_weights(path: Path, model: Classifier) -> dict[str, torch.Tensor]:
    """Weights that this project wrote, or those of the bare network, which then gets this data's normalisation."""
    tensors = read_tensors(path, made_by="train_teacher")
    if any(name.startswith("network.") for name in tensors):
        return tensors
    normalisation = {name: buffer for name, buffer in model.state_dict().items() if not name.startswith("network.")}
    return normalisation | {f"network.{name}": tensor for name, tensor in tensors.items()}


def _task(settings: TrainTeacher, train: Split, val: Split, device: torch.device) -> Task[Batch]:
    batch_size = settings.fit.batch_size

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        logits = model(batch.images.to(device, non_blocking=True))
        return _cross_entropy(logits, batch, settings.label_smoothing).mean()

    return Task(
        batches=lambda epoch, start_step: training_batches(
            train,
            settings.views,
            view=epoch,
            epoch=epoch,
            batch_size=batch_size,
            seed=settings.seed,
            start_step=start_step,
        ),
        steps_per_epoch=num_steps(len(train), batch_size),
        loss=loss,
        pixels=lambda batch: batch.images,
        validate=lambda model: classification_metrics(
            predict_logits(model, plain_batches(val, EVAL_BATCH_SIZE), device), val.hard_labels
        ),
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


def _calibrate(model: Classifier, val: Split, device: torch.device) -> dict[str, Any]:
    logits = predict_logits(model, plain_batches(val, EVAL_BATCH_SIZE), device)
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
