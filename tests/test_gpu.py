"""The behaviour that must hold on a CUDA device: `pytest -m gpu`; skipped where there is none."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split
from runs import make_task
from stores import (
    GRID,
    LABELLED,
    SPLIT,
    UINT8,
    Row,
    begin,
    content,
    flip,
    logits_of,
    make,
    manifest_of,
    outputs_of,
    shards,
    tables_of,
)
from test_moved_maps import with_maps
from test_views import ALL, spec_of
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.core.seeding import philox
from pipeline.data.dataset import ImageDataset
from pipeline.data.paging import Paging
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.copies import copied_ahead
from pipeline.labelling.dump import dump_labels
from pipeline.labelling.repair import repair_block
from pipeline.labelling.target import Target
from pipeline.labelling.teacher import Teacher, compute_logits, label_rows, rendered_there
from pipeline.labels.encodings import build_encoding
from pipeline.labels.position_targets import PositionTargets
from pipeline.labels.reader import StoreReader
from pipeline.labels.targets import SparseTargets
from pipeline.models import ClassifierSpec
from pipeline.models.devices import choose_device, has_room
from pipeline.models.predict import predict_logits
from pipeline.preparation.write import write_dataset
from pipeline.signals.losses import cross_entropy
from pipeline.signals.metrics import classification_metrics
from pipeline.student.labelled_views import LabelledViews, Placement
from pipeline.student.losses import build_loss
from pipeline.student.objective import Objective
from pipeline.training.batches import num_steps
from pipeline.training.epochs import Epoch
from pipeline.training.fit import fit
from pipeline.training.recipe import FitSettings
from pipeline.training.run import Workplace
from pipeline.training.trainer import Trainer
from pipeline.views.operations.pad_crop import PadCrop
from pipeline.views.plan import plan_view, view_batches
from pipeline.views.spec import ViewSpec, render

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
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
        arguments = (split.inputs, own, spec, split.inputs[partners], own[partners])
        there = (split.inputs.cuda(), own.cuda(), spec, split.inputs[partners].cuda(), own[partners])
        assert torch.equal(render(*arguments), render(*there).cpu())


def test_maps_of_views_are_the_same_classes() -> None:
    split = with_maps(64, (3, 40, 33))
    plan = plan_view(split, spec_of(*ALL["cutmix"]), 1)
    there = plan_view(split.to(GPU), spec_of(*ALL["cutmix"]), 1).labels(slice(None))
    assert there.device == GPU
    assert torch.equal(plan.labels(slice(None)), there.cpu())


def test_training_works_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    split, spec, device = (
        make_split(),
        ViewSpec(seed=1, plain_first=False, operations=(PadCrop(pad_px=1),)),
        torch.device("cuda"),
    )
    model = ClassifierSpec(
        "convnet_small", {"width": 4, "depth": 1}, num_classes=4, channels=1, mean=[0.4], std=[0.2]
    ).build()
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
        compile=False,
        checkpoint_seconds=0.0,
    )
    task = make_task(
        batches=lambda epoch, start: Epoch(split, spec, view=epoch, number=epoch, batch_size=16, seed=0).batches(start),
        steps_per_epoch=num_steps(len(split), 16),
        loss=lambda net, batch: cross_entropy(net(batch.inputs.to(device)), batch.hard_labels.to(device)).mean(),
        inputs=lambda batch: batch.inputs,
        validate=lambda net: classification_metrics(predict_logits(net, split.in_order(32), device), split.hard_labels),
    )
    first, again = (fit([Trainer(model, task, settings, Workplace(tmp_path, device, "gpu"))])[0] for _ in range(2))
    assert first.state.history[-1]["val_accuracy"] > 0.5
    assert all(torch.equal(first.last[name], again.last[name]) for name in first.last)


def test_processes_take_the_gpus_in_turn() -> None:
    assert choose_device("auto") == GPU
    assert [choose_device("cuda", index).index for index in range(9)] == [
        index % torch.cuda.device_count() for index in range(9)
    ]


def plain(targets: torch.Tensor | SparseTargets) -> list[torch.Tensor]:
    """Returns the content of targets, on the CPU."""
    if isinstance(targets, torch.Tensor):
        return [targets.cpu()]
    parts = (targets.classes, targets.log_probs, targets.log_rest)
    return [part.cpu() for part in parts if part is not None]


@EACH
def test_labels_are_read_on_the_gpu_as_on_the_cpu(row: Row) -> None:
    manifest = manifest_of(row)
    codec = build_encoding(row, "test").codec(manifest.space, tables_of(manifest))
    log_probs = torch.log_softmax(logits_of(SPLIT.sample_ids, 1), dim=1)
    anchors = codec.make_anchors(log_probs)
    fields = codec.encode(log_probs, SPLIT.sample_ids, 1, anchors) | anchors
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
    anchors = codec.make_anchors(log_probs)
    anchors_there = {name: values.to(GPU) for name, values in anchors.items()}
    fields = codec.encode(log_probs.to(GPU), SPLIT.sample_ids, 1, anchors_there)
    assert all(values.device.type == "cuda" for values in fields.values())
    on_cpu = codec.encode(log_probs, SPLIT.sample_ids, 1, anchors)
    for name, values in fields.items():
        assert values.dtype == on_cpu[name].dtype
        # Rounding may tip a label's code to its neighbour, or a draw to the next class.
        same = (values.cpu().double() == on_cpu[name].double()).double().mean()
        assert same > 0.9


class Bright(nn.Module):
    """A network whose outputs are the same to the last bit on any device."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, 40:46].float() / 16


def dumped(path: Path, row: Row, device: torch.device, split: SplitInMemory) -> StoreReader:
    writer = begin(path, row)
    teacher = Teacher(Bright().to(device), device, 7)
    dump_labels(teacher, split, writer.manifest.blocks(), [Target(writer)], lambda count: None)
    writer.finish()
    return StoreReader(path)


@pytest.mark.parametrize("row", GRID.values(), ids=GRID)
def test_labels_at_positions_are_those_of_the_cpu(row: Row) -> None:
    manifest = manifest_of(row)
    codec = build_encoding(row, "test").codec(manifest.space, tables_of(manifest))
    values = manifest.space.signal.values(outputs_of(manifest, SPLIT.sample_ids, 1), 1.0)
    fields, there = (codec.encode(each, SPLIT.sample_ids, 1) for each in (values, values.to(GPU)))
    for name, own in fields.items():
        same = (there[name].cpu().double() == own.double()).double().mean()
        assert same == 1 if name == "draw" else same > 0.9
    moved = {name: own.to(GPU) for name, own in fields.items()}
    for temperature in manifest.temperatures:
        ours, theirs = codec.targets(moved, temperature), codec.targets(fields, temperature)
        assert isinstance(ours, PositionTargets)
        assert isinstance(theirs, PositionTargets)
        torch.testing.assert_close(ours.rows, theirs.to(GPU).rows, rtol=1e-4, atol=1e-4)
        if ours.index is not None:
            assert theirs.index is not None
            assert torch.equal(ours.index.cpu(), theirs.index)


@EACH
def test_a_dump_on_the_gpu_is_nearly_that_of_the_cpu_and_the_same_wherever_images_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row
) -> None:
    on_cpu = dumped(tmp_path / "cpu.zarr", row, CPU, SPLIT)
    lying, travelling = (
        dumped(tmp_path / f"{name}.zarr", row, GPU, split) for name, split in {"l": SPLIT.to(GPU), "t": SPLIT}.items()
    )
    assert content(lying.path) == content(travelling.path)
    monkeypatch.setattr("pipeline.labelling.write_behind._BLOCKS_BEHIND", {})
    assert content(lying.path) == content(dumped(tmp_path / "at_once.zarr", row, GPU, SPLIT.to(GPU)).path)
    for view in range(2):
        for name, values in on_cpu.read_view(view).items():
            # Rounding may tip a label's code to its neighbour, or a draw to the next class.
            assert (values.double() == lying.read_view(view)[name].double()).double().mean() > 0.95
    stated: list[Any] = [store.manifest.fidelity for store in (on_cpu, lying)]
    assert stated[0]["top1_agreement"] == stated[1]["top1_agreement"]
    for temperature, kl in stated[0]["kl_nats"].items():
        assert stated[1]["kl_nats"][temperature]["mean"] == pytest.approx(kl["mean"], rel=0.05, abs=1e-6)


def test_a_block_is_repaired_on_the_gpu_bit_for_bit(tmp_path: Path) -> None:
    store = dumped(tmp_path / "x.zarr", UINT8, GPU, SPLIT.to(GPU))
    whole = content(store.path)
    flip(shards(store.path, "log_prob_codes")[4])
    (broken,) = [block for block, fault in StoreReader(store.path).check() if fault]
    assert repair_block(Teacher(Bright().to(GPU), GPU, 7), SPLIT, StoreReader(store.path), broken)
    assert content(store.path) == whole


def test_an_output_that_is_not_finite_stops_a_dump_on_the_gpu(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)[:, :6].float() * torch.nan

    writer = begin(tmp_path / "x.zarr", UINT8)
    teacher, blocks = Teacher(Broken(), GPU, 7), writer.manifest.blocks()
    with pytest.raises(ModelError, match="8 of 8 outputs of view 0 are NaN or infinite"):
        dump_labels(teacher, SPLIT, blocks, [Target(writer)], lambda count: None)
    assert not any(writer.has(block) for block in blocks)


def small_network() -> nn.Module:
    settings = {"width": 8, "depth": 2}
    return ClassifierSpec("resnet_small", settings, num_classes=6, channels=3, mean=[0.3] * 3, std=[0.2] * 3).build(1)


def test_a_networks_logits_on_the_gpu_agree_with_the_cpus() -> None:
    split = make_split(256, shape=(3, 32, 32))
    spec = spec_of(*ALL["mixup"])
    said = []
    for device in (CPU, GPU):
        model = small_network().eval().to(device)
        said.append(label_rows(Teacher(model, device, 48), split.to(device), spec, 1, range(256)))
    assert (said[0].argmax(dim=1) == said[1].argmax(dim=1)).double().mean() > 0.95
    torch.testing.assert_close(said[1], said[0], rtol=0.02, atol=0.05 * float(said[0].std()))


@contextmanager
def no_waiting() -> Iterator[None]:
    """Makes it an error to wait for the device."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that not everything is seen
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("last", ["mixup", "cutmix"])
def test_nothing_waits_for_the_gpu_between_the_batches_of_a_block(last: str) -> None:
    split, spec = make_split(100, shape=(3, 32, 32)).to(GPU), spec_of(*ALL[last])
    teacher = Teacher(small_network().to(GPU), GPU, 16)
    plans = [plan_view(split, spec, view) for view in (1, 2)]
    compute_logits(teacher, plans[0], left_on=GPU)  # what is done once
    with no_waiting():
        logits = compute_logits(teacher, plans[1], left_on=GPU)
    assert logits.device == GPU


# Memory.


class Large(nn.Module):
    """A network that takes 16 MiB for an image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        wide = images.flatten(1)[:, :1].float().expand(-1, 1 << 22).clone()
        return images.flatten(1)[:, :4].float() + 0 * wide.sum(dim=1, keepdim=True)


@contextmanager
def memory_of(num_bytes: int) -> Iterator[None]:
    """Limits torch to `num_bytes` more of the GPU's memory than it holds now."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(GPU) + num_bytes) / total, GPU)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)


def test_batches_that_do_not_fit_are_halved(capsys: pytest.CaptureFixture[str]) -> None:
    images = make_split(64).inputs
    with memory_of(300 << 20):
        logits = predict_logits(Large(), images.split(64), GPU)
    assert torch.equal(logits, images.flatten(1)[:, :4].float())
    assert "out of memory on cuda:0 with 64 images at once: going on with" in capsys.readouterr().err


def test_one_image_that_does_not_fit_is_an_error_of_one_line() -> None:
    with memory_of(4 << 20), pytest.raises(ModelError, match="memory of cuda:0: too little for a forward pass of one"):
        predict_logits(Large(), [make_split(8).inputs], GPU)


def test_images_lie_on_the_gpu_where_they_fit() -> None:
    free, total = torch.cuda.mem_get_info(GPU)
    assert has_room(GPU, free // 4)
    assert not has_room(GPU, total)


@pytest.mark.parametrize("last", ["mixup", "cutmix"])
def test_views_are_the_same_pixels_wherever_images_lie(last: str) -> None:
    split, spec = make_split(100, shape=(3, 40, 33)), spec_of(*ALL[last])
    for view in range(3):
        here = list(view_batches(split, spec, view, range(3, 97), 16))
        lying = list(view_batches(split.to(GPU), spec, view, range(3, 97), 16))
        travelling = list(rendered_there(plan_view(split, spec, view, rows=np.arange(3, 97)), 16, GPU))
        for one, two, three in zip(here, lying, travelling, strict=True):
            assert two.device == three.device == GPU
            assert torch.equal(one, two.cpu())
            assert torch.equal(one, three.cpu())


def test_what_travels_arrives_whole_while_the_gpu_works() -> None:
    sent = [[torch.full((1 << 20,), number, dtype=torch.int32), torch.arange(number + 1)] for number in range(20)]
    busy = torch.randn(2048, 2048, device=GPU)
    sums = []
    for large, small in copied_ahead(iter(sent), GPU):
        for _ in range(10):
            busy = torch.tanh(busy @ busy)
        sums.append((large.double().sum(), small.sum()))
    assert [(float(a), int(b)) for a, b in sums] == [(n * float(1 << 20), n * (n + 1) // 2) for n in range(20)]


@EACH
def test_a_students_batches_are_the_same_where_images_lie_on_the_gpu(tmp_path: Path, row: Row) -> None:
    store = make(tmp_path / "x.zarr", row)
    names = store.manifest.class_names
    here = LabelledViews(SPLIT, store, names, 1.0, Placement(GPU))
    there = LabelledViews(SPLIT, store, names, 1.0, Placement(GPU, resident=SPLIT.to(GPU)))
    for ours, theirs in zip(*(v.batches(1, 0, batch_size=8, seed=0) for v in (there, here)), strict=True):
        assert ours.inputs.device == GPU
        assert torch.equal(ours.inputs.cpu(), theirs.inputs)
        assert torch.equal(ours.hard_labels, theirs.hard_labels)


def test_a_teachers_batches_are_the_same_where_images_lie_on_the_gpu() -> None:
    split, spec = make_split(100, shape=(3, 40, 33)), spec_of(*ALL["cutmix"])
    both = (Epoch(s, spec, view=1, number=1, batch_size=16, seed=0).batches() for s in (split, split.to(GPU)))
    for here, there in zip(*both, strict=True):
        assert there.inputs.device == there.hard_labels.device == GPU
        for name in ("inputs", "hard_labels", "partner_labels", "own_shares"):
            assert torch.equal(getattr(here, name), getattr(there, name).cpu())


def test_windows_of_images_on_disk_are_rendered_on_the_gpu(tmp_path: Path) -> None:
    split, spec = make_split(100, shape=(3, 40, 33)), spec_of(*ALL["cutmix"])
    write_dataset(tmp_path, "made up", ("a", "b", "c", "d"), {"train": split, "val": split, "test": split})
    streamed, paging = ImageDataset(tmp_path).stream("train"), Paging(100, 7, 3)
    both = (
        Epoch(streamed, spec, view=1, number=1, batch_size=16, seed=0, paging=paging, device=device).batches()
        for device in (CPU, GPU)
    )
    for here, there in zip(*both, strict=True):
        assert there.inputs.device == GPU
        assert torch.equal(here.inputs, there.inputs.cpu())


@EACH
def test_soft_targets_are_decoded_on_the_gpu(tmp_path: Path, row: Row) -> None:
    store = make(tmp_path / "x.zarr", row)
    student = nn.Sequential(nn.Flatten(), nn.Linear(144, 6))
    objective = Objective(0.5, 0.5, 1.0, 0.1, build_loss({"kind": "kd", "standardize": False}, "test"))
    views = {
        device: LabelledViews(SPLIT, store, store.manifest.class_names, 1.0, Placement(device)) for device in (CPU, GPU)
    }
    pairs = zip(*(views[device].batches(1, 0, batch_size=8, seed=0) for device in views), strict=True)
    for on_cpu, on_gpu in pairs:
        assert torch.equal(on_cpu.inputs, on_gpu.inputs)
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
