"""What must hold on a CUDA device: `pytest -m gpu`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_split
from stores import LABELLED, SPEC, SPLIT, Row, begin, content, logits_of, make, manifest_of, tables_of
from test_views import ALL, spec_of
from torch import nn

from pipeline.batches import num_steps, plain_batches, training_batches
from pipeline.devices import choose_device
from pipeline.distillation import LabelledViews
from pipeline.encodings import build_encoding
from pipeline.inference import predict_logits
from pipeline.labelling import Target, Teacher, dump_labels
from pipeline.losses import cross_entropy
from pipeline.metrics import classification_metrics
from pipeline.models import build_model
from pipeline.objective import Objective, build_loss
from pipeline.recipe import FitSettings
from pipeline.seeding import philox
from pipeline.targets import SparseTargets
from pipeline.trainer import Task
from pipeline.training import fit
from pipeline.views import PadCrop, ViewSpec, render

pytestmark = pytest.mark.gpu
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
EACH = pytest.mark.parametrize("row", LABELLED.values(), ids=LABELLED)


def test_random_words_are_the_same_bits() -> None:
    words = torch.arange(1000, dtype=torch.int64)
    on_cpu = philox(7, (words, words, words, words))
    on_gpu = philox(7, tuple(word.cuda() for word in (words, words, words, words)))  # type: ignore[arg-type]
    for one, other in zip(on_cpu, on_gpu, strict=True):
        assert np.array_equal(one.numpy(), other.cpu().numpy())


@pytest.mark.parametrize("last", ["mixup", "cutmix"])
def test_views_are_the_same_pixels(last: str) -> None:
    split, spec = make_split(shape=(3, 40, 33)), spec_of(*ALL[last])
    for view in range(4):
        own = spec.draw(split.sample_ids, view)
        partners = torch.from_numpy(spec.partners(split.sample_ids, view, 16))
        arguments = (split.images, own, spec, split.images[partners], own[partners])
        there = (split.images.cuda(), own.cuda(), spec, split.images[partners].cuda(), own[partners])
        assert torch.equal(render(*arguments), render(*there).cpu())


def test_training_works_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    split, spec, device = (
        make_split(),
        ViewSpec(seed=1, plain_first=False, operations=(PadCrop(pad_px=1),)),
        torch.device("cuda"),
    )
    model = build_model("convnet_small", {"width": 4, "depth": 1}, num_classes=4, channels=1, mean=[0.4], std=[0.2])
    settings = FitSettings(
        epochs=6,
        batch_size=16,
        optimizer="adamw",
        learning_rate=0.01,
        weight_decay=0.01,
        schedule="cosine",
        warmup_fraction=0.1,
        clip_norm=5.0,
        accumulate_batches=1,
        patience_epochs=None,
        freeze_epochs=0,
        layer_decay=1.0,
        ema_decay=0.9,
        precision="auto",
        checkpoint_seconds=0.0,
    )
    task = Task(
        batches=lambda epoch, start: training_batches(
            split, spec, view=epoch, epoch=epoch, batch_size=16, seed=0, start_step=start
        ),
        steps_per_epoch=num_steps(len(split), 16),
        loss=lambda net, batch: cross_entropy(net(batch.images.to(device)), batch.hard_labels.to(device)).mean(),
        pixels=lambda batch: batch.images,
        validate=lambda net: classification_metrics(
            predict_logits(net, plain_batches(split, 32), device), split.hard_labels
        ),
    )
    first = fit(model, task, settings, tmp_path, device, "gpu")
    again = fit(model, task, settings, tmp_path, device, "gpu")
    assert first.state.history[-1]["val_accuracy"] > 0.5
    assert all(torch.equal(first.last[name], again.last[name]) for name in first.last)


def test_processes_take_the_gpus_in_turn() -> None:
    assert choose_device("auto") == GPU
    assert [choose_device("cuda", index).index for index in range(9)] == [
        index % torch.cuda.device_count() for index in range(9)
    ]


def plain(targets: torch.Tensor | SparseTargets) -> list[torch.Tensor]:
    """What targets hold, on the CPU."""
    if isinstance(targets, torch.Tensor):
        return [targets.cpu()]
    parts = (targets.classes, targets.log_probs, targets.log_rest)
    return [part.cpu() for part in parts if part is not None]


@EACH
def test_labels_are_read_on_the_gpu_as_on_the_cpu(row: Row) -> None:
    manifest = manifest_of(row)
    codec = build_encoding(row, "test").codec(manifest.space, tables_of(manifest))
    fields = codec.encode(torch.log_softmax(logits_of(SPLIT.sample_ids, 1), dim=1), SPLIT.sample_ids, 1)
    there = {name: values.to(GPU) for name, values in fields.items()}
    for temperature in (t for t in manifest.temperatures if codec.serves(t)):
        before = codec.decode(fields, temperature)
        on_gpu = codec.decode(there, temperature)
        assert on_gpu.device.type == "cuda"
        torch.testing.assert_close(on_gpu.cpu(), before, rtol=1e-4, atol=1e-4)
        pairs = zip(plain(codec.targets(there, temperature)), plain(codec.targets(fields, temperature)), strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        assert torch.equal(codec.decode(fields, temperature), before)  # its tables are back on the CPU


@EACH
def test_labels_are_written_on_the_gpu_as_near_the_teacher_as_on_the_cpu(row: Row) -> None:
    manifest = manifest_of(row)
    codec = build_encoding(row, "test").codec(manifest.space, tables_of(manifest))
    log_probs = torch.log_softmax(logits_of(SPLIT.sample_ids, 1), dim=1)
    fields = codec.encode(log_probs.to(GPU), SPLIT.sample_ids, 1)
    assert all(values.device.type == "cuda" for values in fields.values())
    on_cpu = codec.encode(log_probs, SPLIT.sample_ids, 1)
    for name, values in fields.items():
        assert values.dtype == on_cpu[name].dtype
        # Rounding may tip a label's code to its neighbour, or a draw to the next class.
        same = (values.cpu().double() == on_cpu[name].double()).double().mean()
        assert same > 0.9


class Bright(nn.Module):
    """Says the same to the last bit on any device."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, 40:46].float() / 16


@EACH
def test_a_dump_on_the_gpu_is_the_one_of_the_cpu(tmp_path: Path, row: Row) -> None:
    found = []
    for device in (CPU, GPU):
        writer = begin(tmp_path / f"{device.type}.zarr", row)
        teacher = Teacher(Bright().to(device), device, 7)
        dump_labels(teacher, SPLIT, SPEC, writer.manifest.blocks(), [Target(writer)], lambda count: None)
        writer.finish()
        found.append(content(writer.path))
    assert found[0] == found[1]


@EACH
def test_soft_targets_are_decoded_on_the_gpu(tmp_path: Path, row: Row) -> None:
    store = make(tmp_path / "x.zarr", row)
    student = nn.Sequential(nn.Flatten(), nn.Linear(144, 6))
    objective = Objective(0.5, 0.5, 1.0, 0.1, build_loss({"kind": "kd", "standardize": False}, "test"))
    views = {device: LabelledViews(SPLIT, store, store.manifest.class_names, 1.0, device) for device in (CPU, GPU)}
    pairs = zip(*(views[device].batches(1, 0, batch_size=8, seed=0) for device in views), strict=True)
    for on_cpu, on_gpu in pairs:
        assert torch.equal(on_cpu.images, on_gpu.images)
        assert on_cpu.soft_targets is not None
        assert on_gpu.soft_targets is not None
        for ours, theirs in zip(plain(on_gpu.soft_targets), plain(on_cpu.soft_targets), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        model = nn.Sequential(Scaled(), student)
        losses = [objective(model.to(device), batch, device).item() for device, batch in ((CPU, on_cpu), (GPU, on_gpu))]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)


class Scaled(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float() / 255
