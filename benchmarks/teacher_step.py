r"""A teacher's training against its bare passes on random images that lie on the device.

The training is all of it: views, loss, optimizer and moving average.

    python -m benchmarks.teacher_step    # the teacher and the data that `make repro` left
    python -m benchmarks.teacher_step --device cuda --network torchvision/resnet50 --px 224 \
        --classes 1000

With `--network`, weights and images are random: only the time is of interest.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
import typer

from benchmarks.dump_overhead import NETWORK_SETTINGS
from benchmarks.measure import DeviceOption, in_turn, need_data, report, synchronize
from pipeline.core.config import load_section
from pipeline.core.errors import one_line_errors
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.sample_ids import sample_ids
from pipeline.data.splits import SplitInMemory
from pipeline.models import ClassifierSpec
from pipeline.models.devices import choose_device, has_room
from pipeline.models.precision import choose_precision, computing_in
from pipeline.teacher.settings import TrainTeacher
from pipeline.teacher.task import TeacherData, TeacherTask
from pipeline.training.batches import Batch
from pipeline.training.run import Workplace
from pipeline.training.trainer import Trainer

_STEPS = 10


def main(
    device: DeviceOption = None,
    network: str | None = None,
    px: int = 32,
    classes: int = 10,
    batch_size: int | None = None,
    rounds: int = 15,
) -> None:
    settings = load_section(TrainTeacher, "train_teacher")
    settings = replace(settings, fit=replace(settings.fit, batch_size=batch_size or settings.fit.batch_size))
    where, size = choose_device(device or settings.device), settings.fit.batch_size
    if network is None:
        need_data()
        dataset = ImageDataset(Path("data/prepare"))
        split, classes = dataset.split("train"), len(dataset.manifest.class_names)
    else:
        own = NETWORK_SETTINGS.get(network, {})
        settings = replace(settings, model=network, model_settings=own)
        split = _made_up(4 * _STEPS * size, px)
    shown = split.to(where) if has_room(where, split.inputs.nbytes) else split
    data = TeacherData(shown, split, MemoryBudget(split.inputs.nbytes, size, "teacher_step"))
    trained = _trainer(settings, data, classes, where)
    train, passes = _training(trained), _passes(trained, split)
    trained_s, passes_s, ratio = in_turn(train, passes, rounds)
    forward_s = in_turn(_passes(trained, split, backward=False), passes, rounds)[0]
    row = {
        "network": network or "the teacher",
        "images": " x ".join(map(str, split.inputs.shape[1:])),
        "number format": trained.state.precision,
        "trained images/s": _STEPS * size / trained_s,
        "forward and backward images/s": _STEPS * size / passes_s,
        "share of these": 1 / ratio,
        "forward images/s": _STEPS * size / forward_s,
    }
    name = "teacher_step" if network is None else f"teacher_step_{network.split('/')[-1]}_{px}"
    claim = f"training a teacher against its bare passes, median of {rounds} pairs of {_STEPS} steps of {size}"
    report(name, claim, [row], where)


def _made_up(count: int, px: int) -> SplitInMemory:
    images = torch.randint(0, 256, (count, 3, px, px), dtype=torch.uint8)
    return SplitInMemory(images, torch.zeros(count, dtype=torch.int64), sample_ids(images.numpy()))


def _trainer(settings: TrainTeacher, data: TeacherData, classes: int, device: torch.device) -> Trainer[Batch]:
    channels = data.train.input_shape[0]
    model = ClassifierSpec(
        settings.model,
        settings.model_settings,
        num_classes=classes,
        channels=channels,
        mean=[0.5] * channels,
        std=[0.25] * channels,
    ).build()
    with TemporaryDirectory() as scratch:
        task = TeacherTask(settings, data, device)
        trainer = Trainer(model, task, settings.fit, Workplace(Path(scratch), device, "bench"))
    trainer.begin_epoch()
    return trainer


def _training(trainer: Trainer[Batch]) -> Callable[[], None]:
    """Returns a function that does some steps of the real training, epoch after epoch."""

    def batches() -> Iterator[Batch]:
        for epoch in count():
            yield from trainer.task.batches(epoch, 0)

    coming = batches()

    def run() -> None:
        for _ in range(_STEPS):
            trainer.state.step %= trainer.task.steps_per_epoch
            trainer.step(next(coming))
        synchronize(trainer.device)

    return run


def _passes(trainer: Trainer[Batch], split: SplitInMemory, *, backward: bool = True) -> Callable[[], None]:
    """Returns a function that does as many bare passes through the same network."""
    device, model = trainer.device, trainer.model
    shape = (trainer.settings.batch_size, *split.inputs.shape[1:])
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    labels = torch.zeros(len(pixels), dtype=torch.int64, device=device)
    if not trainer.state.precision:
        trainer.state.precision = choose_precision(trainer.settings.precision, model, device)

    def run() -> None:
        for _ in range(_STEPS):
            with torch.set_grad_enabled(backward), computing_in(trainer.state.precision, device):
                logits = model(pixels)
            if backward:
                model.zero_grad(set_to_none=True)
                F.cross_entropy(logits, labels).backward()
        synchronize(device)

    return run


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
