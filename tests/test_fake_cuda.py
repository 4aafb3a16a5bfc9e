"""The code that runs on a CUDA device, without one: nothing mixes devices, and nothing waits for
the device between the batches of a dump or of an epoch.

Values are made up, so this shows no more than devices, types and waiting; `pytest -m gpu` compares
values where there is a device.
"""

from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_split
from fake_cuda import DEVICE, Queue, WaitingError, fake_cuda
from kinds import COLUMNS, RATE_HZ, make_kind_split, tokenizer_json
from runs import make_task, recipe
from stores import BINARY, GRID, LABELLED, SPLIT, Row, begin, make, manifest_of, outputs_of, tables_of
from test_moved_maps import with_maps
from test_views import ALL, spec_of
from tokenizers import Tokenizer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError

import pipeline.student.losses.kd
import pipeline.views.operations.colour
from pipeline.core.errors import ConfigError
from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import InputKindName
from pipeline.data.signal_kinds import SignalKind
from pipeline.evaluation.corruptions import CORRUPTIONS
from pipeline.evaluation.corruptions.base import Robustness
from pipeline.evaluation.exam import Exam
from pipeline.evaluation.marks import MARKS
from pipeline.labelling.dump import dump_labels
from pipeline.labelling.target import Target
from pipeline.labelling.teacher import Teacher, compute_logits
from pipeline.labelling.write_behind import WriteBehind
from pipeline.labels.encodings import Codec, build_encoding
from pipeline.labels.fields import encode_logits
from pipeline.labels.position_targets import PositionTargets
from pipeline.labels.targets import SparseTargets
from pipeline.models import Classifier, ClassifierSpec, convnet_small
from pipeline.models.predict import predict_logits
from pipeline.models.row_classifier import RowClassifier
from pipeline.models.row_families import deepfm_small
from pipeline.models.sound_classifier import SoundClassifier, Spectra
from pipeline.models.text_classifier import TextClassifier
from pipeline.models.text_families import textconv_small
from pipeline.preparation.write import write_dataset
from pipeline.signals import signal_named
from pipeline.student.batches import LabelledBatch, Targets
from pipeline.student.feature_losses import FEATURE_LOSSES, build_feature_loss
from pipeline.student.labelled_views import LabelledViews, Placement
from pipeline.student.losses import LOSSES, build_loss
from pipeline.student.objective import Objective
from pipeline.training.run import Workplace
from pipeline.training.trainer import Trainer
from pipeline.training.validation import Validation
from pipeline.views.operations import OPERATIONS
from pipeline.views.plan import plan_view
from pipeline.views.spec import ViewSpec

ROWS = LABELLED | BINARY | GRID
EACH = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with fake_cuda(monkeypatch):
        yield


def codec_of(row: Row) -> Codec:
    manifest = manifest_of(row)
    return build_encoding(row, "test").codec(manifest.space, tables_of(manifest))


def encoded(row: Row, codec: Codec) -> dict[str, torch.Tensor]:
    """Returns labels of a view and their anchors, on the device, as are the teacher's outputs."""
    outputs = outputs_of(manifest_of(row), SPLIT.sample_ids, 1)
    values = codec.space.signal.values(outputs, codec.space.temperature)
    anchors = codec.make_anchors(values)
    there = {name: each.to(DEVICE) for name, each in anchors.items()}
    return codec.encode(values.to(DEVICE), SPLIT.sample_ids, 1, there) | there


def network(channels: int = 1) -> nn.Module:
    spec = ClassifierSpec(
        "convnet_small", {"width": 4, "depth": 1}, num_classes=6, channels=channels, mean=[0.4], std=[0.2]
    )
    return spec.build().to(DEVICE)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("last", ["mixup", "cutmix"])
def test_views_are_rendered_on_the_device(last: str) -> None:
    split = make_split(shape=(3, 40, 33)).to(DEVICE)
    views = plan_view(split, spec_of(*ALL[last]), 1).render(slice(None))
    assert (views.device, views.dtype, views.shape) == (DEVICE, torch.uint8, split.inputs.shape)


@pytest.mark.usefixtures("cuda")
def test_maps_move_on_the_device() -> None:
    labels = plan_view(with_maps(16, (3, 40, 33)).to(DEVICE), spec_of(*ALL["cutmix"]), 1).labels(slice(None))
    assert (labels.device, labels.dtype) == (DEVICE, torch.int16)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_block_is_labelled_without_a_wait(precision: str) -> None:
    split, model = make_split(24, shape=(3, 16, 16)).to(DEVICE), network(3)
    seen: list[torch.dtype] = []
    model.network.register_forward_hook(lambda _, __, outputs: seen.append(outputs.dtype))  # type: ignore[union-attr]
    teacher = Teacher(model, DEVICE, 8, precision)
    logits = compute_logits(teacher, plan_view(split, spec_of(*ALL["mixup"]), 1), left_on=DEVICE)
    assert (logits.device, logits.dtype, logits.shape) == (DEVICE, torch.float32, (24, 6))
    assert seen == [getattr(torch, precision)] * 3


@pytest.mark.usefixtures("cuda")
@EACH
def test_labels_are_encoded_on_the_device_and_leave_it_once(row: Row) -> None:
    codec = codec_of(row)
    outputs = outputs_of(manifest_of(row), SPLIT.sample_ids, 1)
    anchors = codec.make_anchors(codec.space.signal.values(outputs, codec.space.temperature))
    on_cpu = encode_logits(codec, outputs, SPLIT.sample_ids, 1, anchors)
    labels = encode_logits(codec, outputs.to(DEVICE), SPLIT.sample_ids, 1, anchors)
    for name, values in on_cpu.items():
        assert (labels[name].device.type, labels[name].dtype, labels[name].shape) == (
            "cpu",
            values.dtype,
            values.shape,
        )


@pytest.mark.usefixtures("cuda")
@EACH
def test_a_dumps_loop_hands_every_block_over_without_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row
) -> None:
    monkeypatch.setattr("pipeline.labelling.dump.WriteBehind", Handed)
    writer = begin(tmp_path / "x.zarr", row)
    manifest, counts = writer.manifest, list[int]()
    split = (SPLIT if manifest.positions is None else with_maps(20, (1, *manifest.positions))).to(DEVICE)
    model = network() if manifest.positions is None else Everywhere().to(DEVICE)
    dump_labels(Teacher(model, DEVICE, 8), split, manifest.blocks(), [Target(writer)], counts.append)
    assert sum(counts) == manifest.num_labels
    blocks = [write.args for write in Handed.last if len(write.args) == 3]
    assert {block for block, _, _ in blocks} == {*manifest.blocks()}
    for block, _, logits in blocks:
        assert (logits.values.device, len(logits.values)) == (DEVICE, len(block.rows))
        assert Queue.waits == 0


class Handed(WriteBehind):
    """A writer that keeps what it is handed: writing looks at values."""

    last: list[Any]

    def __init__(self, device: torch.device, at_least: int = 0) -> None:
        type(self).last = []

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, write: Any, claimed: ExitStack) -> None:
        self.last.append(write)
        claimed.close()

    def finish(self) -> None:
        pass


@pytest.mark.usefixtures("cuda")
def test_a_prediction_waits_once_for_all_batches() -> None:
    split = make_split(24)
    logits = predict_logits(network(), split.in_order(8), DEVICE, precision="bfloat16")
    assert (logits.device.type, logits.dtype, logits.shape) == ("cpu", torch.float32, (24, 6))
    assert Queue.waits == 1


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("signal", ["categorical", "grid"])
def test_a_validation_split_is_predicted_on_the_device(signal: SignalKind) -> None:
    model = network() if signal == "categorical" else Everywhere().to(DEVICE)
    logits = Validation(SPLIT, None, DEVICE, signal=signal_named(signal)).logits(model)
    assert (logits.device.type, logits.shape[:2]) == ("cpu", (20, 6))


def test_a_test_split_and_its_corruptions_are_predicted_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path, "test", list("abcdef"), dict.fromkeys(("train", "val", "test"), SPLIT))
    test, shapes = ImageDataset(tmp_path).stream("test"), list[torch.Size]()
    judged = copy(MARKS["categorical"])
    monkeypatch.setattr(type(judged), "score", lambda _, logits, __: shapes.append(logits.shape) or 1.0)
    exam = Exam(test, Robustness(num_images=8, severity=3, seed=1), 8, DEVICE, judged)
    with fake_cuda(monkeypatch):
        model = network()
        logits = exam.logits(model, lambda count: None)
        assert (logits.device.type, logits.shape, Queue.waits) == ("cpu", (20, 6), 1)
        exam.corrupted(model, logits, lambda count: None)
    assert shapes == [(8, 6)] * (len(CORRUPTIONS) + 1)
    assert Queue.waits == 1 + len(CORRUPTIONS)


@pytest.mark.parametrize("row", LABELLED.values(), ids=LABELLED)
def test_labels_are_joined_with_views_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    store = make(tmp_path / "x.zarr", row)
    with fake_cuda(monkeypatch):
        placement = Placement(DEVICE, resident=SPLIT.to(DEVICE))
        views = LabelledViews(SPLIT, store, store.manifest.class_names, 1.0, placement)
        batches = [*views.batches(1, 0, batch_size=8, seed=0)]
    assert len(batches) == 2
    for batch in batches:
        assert batch.inputs.device == DEVICE
        assert batch.inputs.dtype == torch.uint8
        assert all(each.device == DEVICE for each in tensors_of(batch.soft_targets))


def tensors_of(targets: Targets) -> list[torch.Tensor]:
    if isinstance(targets, PositionTargets):
        return tensors_of(targets.rows)
    if isinstance(targets, SparseTargets):
        return [each for each in (targets.classes, targets.log_probs, targets.log_rest) if each is not None]
    assert isinstance(targets, torch.Tensor)
    return [targets]


@pytest.mark.usefixtures("cuda")
@EACH
def test_labels_are_decoded_on_the_device(row: Row) -> None:
    codec = codec_of(row)
    labels = encoded(row, codec)
    for temperature in (each for each in codec.space.temperatures if codec.serves(each)):
        targets = codec.targets(labels, temperature)
        assert all(each.device == DEVICE for each in tensors_of(targets))


#: A row of each loss.
LOSS_ROWS: dict[str, Row] = {
    "kd": {"kind": "kd", "standardize": False},
    "kd standardised": {"kind": "kd", "standardize": True},
    "dkd": {"kind": "dkd", "standardize": False, "target_weight": 1.0, "other_weight": 8.0, "warmup_epochs": 2},
    "dist": {"kind": "dist", "standardize": False, "inter_class_weight": 2.0, "intra_class_weight": 2.0},
    "nkd": {"kind": "nkd", "standardize": False, "gamma": 1.5},
    "mse": {"kind": "mse", "standardize": False},
    "binary_kd": {"kind": "binary_kd"},
    "channelwise": {"kind": "channelwise"},
}


def fitting() -> Iterator[tuple[str, str]]:
    """Yields the losses with the encodings that each can learn from, by name."""
    for loss_name, loss_row in LOSS_ROWS.items():
        loss = build_loss(loss_row, "test")
        for name, row in ROWS.items():
            encoding = build_encoding(row, "test")
            try:
                loss.check_signal(manifest_of(row).signal, "test")
                loss.check_labels(encoding.detail, "a store", "test")
                if name in GRID:
                    loss.check_positions(encoding.stride, "test")
            except ConfigError:
                continue
            yield loss_name, name


def lesson(loss_name: str, name: str) -> tuple[Objective, nn.Module, LabelledBatch]:
    """Returns an objective, a network and a batch whose inputs and targets are on the device, and
    its hard labels on the processor, as in an epoch.
    """
    row, codec = ROWS[name], codec_of(ROWS[name])
    signal = codec.space.signal_kind
    hard: torch.Tensor = torch.arange(len(SPLIT)) % 6
    model, inputs = network(), SPLIT.inputs.to(DEVICE)
    if signal == "binary":
        hard = (hard[:, None] > torch.arange(6)).to(torch.int8)
    elif signal == "grid":
        assert codec.space.positions is not None
        hard = torch.zeros(len(SPLIT), *codec.space.positions, dtype=torch.int16)
        model = Everywhere().to(DEVICE)
        inputs = torch.zeros(len(SPLIT), 1, *codec.space.positions, dtype=torch.uint8).to(DEVICE)
    targets = codec.targets(encoded(row, codec), 1.0)
    weights = torch.ones(6).to(DEVICE)
    objective = Objective(0.5, 0.5, 1.0, 0.1, build_loss(LOSS_ROWS[loss_name], "test"), weights, signal_named(signal))
    return objective, model, LabelledBatch(inputs, hard, soft_targets=targets)


class Everywhere(nn.Module):
    """A network that gives logits at each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 6, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(images.float())
        return logits


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(("loss_name", "name"), [*fitting()])
def test_an_objective_neither_mixes_devices_nor_waits(loss_name: str, name: str) -> None:
    objective, model, batch = lesson(loss_name, name)
    blend = objective.blend(batch.soft_targets, batch.hard_labels, None)  # the targets alone, where there is none
    for targets in {id(each): each for each in (batch.soft_targets, blend)}.values():
        with torch.autocast("cuda", torch.bfloat16):
            loss = objective(model, replace(batch, soft_targets=targets), DEVICE)
        assert (loss.device, loss.dtype, loss.shape) == (DEVICE, torch.float32, ())


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("kind", FEATURE_LOSSES)
def test_a_loss_of_embeddings_neither_mixes_devices_nor_waits(kind: str) -> None:
    features = torch.ones(12, 8, device=DEVICE, requires_grad=True)
    loss = build_feature_loss({"kind": kind}, "test")(features, torch.ones(12, 8, device=DEVICE))
    assert (loss.device, loss.dtype, loss.shape) == (DEVICE, torch.float32, ())


def test_every_loss_of_the_table_is_tried() -> None:
    assert {build_loss(row, "test").kind for row in LOSS_ROWS.values()} == set(LOSSES)
    assert {loss for loss, _ in fitting()} == set(LOSS_ROWS)


# Other kinds of inputs.


#: Rows of every operation of other kinds.
OPERATIONS_OF: dict[InputKindName, list[Row]] = {
    "tokens": [
        {"kind": "window_words", "words": 6},
        {"kind": "drop_words", "share": 0.2},
        {"kind": "mask_words", "share": 0.2},
        {"kind": "swap_words", "share": 0.2},
    ],
    "waveform": [
        {"kind": "shift", "most_samples": 100},
        {"kind": "gain", "decibels": [-6.0, 6.0]},
        {"kind": "time_mask", "most_samples": 100},
        {"kind": "frequency_mask", "most_share": 0.2},
        {"kind": "noise", "probability": 0.5, "decibels": [5.0, 20.0]},
        {"kind": "sound_mix", "alpha": 1.0, "probability": 0.5},
    ],
    "row": [{"kind": "drop_columns", "share": 0.2}, {"kind": "swap_columns", "share": 0.2}],
}
EACH_KIND = pytest.mark.parametrize("kind", OPERATIONS_OF)


def test_every_operation_of_other_kinds_is_tried() -> None:
    others = {name for name, operation in OPERATIONS.items() if operation.input_kind != "image"}
    assert {row["kind"] for rows in OPERATIONS_OF.values() for row in rows} == others


@pytest.mark.usefixtures("cuda")
@EACH_KIND
def test_views_of_every_kind_are_rendered_on_the_device(kind: InputKindName) -> None:
    content = {"seed": 1, "plain_first": False, "operations": OPERATIONS_OF[kind]}
    split = make_kind_split(kind, 12)
    views = plan_view(split.to(DEVICE), ViewSpec.from_dict(content, "views"), 1).render(slice(None))
    assert (views.device, views.dtype, views.shape) == (DEVICE, split.inputs.dtype, split.inputs.shape)


@pytest.mark.usefixtures("cuda")
@EACH_KIND
def test_networks_of_every_kind_run_on_the_device(kind: InputKindName) -> None:
    split = make_kind_split(kind, 12)
    networks: dict[InputKindName, Classifier] = {
        "tokens": TextClassifier(
            textconv_small(3, 40, width=8, depth=1), split.content.words, Tokenizer.from_str(tokenizer_json()), 64
        ),
        "waveform": SoundClassifier(convnet_small(3, 1, width=4, depth=1), RATE_HZ, Spectra(mels=16)),
        "row": RowClassifier(deepfm_small(3, sizes_of(COLUMNS), width=8, depth=1, embedding=4)),
    }
    model = networks[kind].to(DEVICE)
    with torch.autocast("cuda", torch.bfloat16):
        logits = model(split.inputs.to(DEVICE))
    assert (logits.device, logits.dtype, logits.shape) == (DEVICE, torch.float32, (12, 3))


def sizes_of(columns: list[dict[str, Any]]) -> list[int]:
    return [column["num_codes"] for column in columns]


# A line that waits or strays is found, wherever it stands.


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("stray", ["item", "cpu", "other device"])
def test_a_stray_line_in_an_objective_is_found(monkeypatch: pytest.MonkeyPatch, stray: str) -> None:
    objective, model, batch = lesson("kd", "uint8")
    losses = pipeline.student.losses.kd.knowledge_distillation
    monkeypatch.setattr(
        "pipeline.student.losses.kd.knowledge_distillation",
        lambda *arguments, **keywords: went_astray(losses(*arguments, **keywords), stray),
    )
    with pytest.raises(FOUND):
        objective(model, batch, DEVICE)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("stray", ["item", "cpu", "other device"])
def test_a_stray_line_in_a_view_is_found(monkeypatch: pytest.MonkeyPatch, stray: str) -> None:
    blended = pipeline.views.operations.colour.blend
    monkeypatch.setattr(
        "pipeline.views.operations.colour.blend", lambda *arguments: went_astray(blended(*arguments), stray)
    )
    split = make_split(shape=(3, 40, 33)).to(DEVICE)
    with pytest.raises(FOUND):
        plan_view(split, spec_of(*ALL["mixup"]), 1).render(slice(None))


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("stray", ["item", "cpu", "other device"])
def test_a_stray_line_in_the_dumps_loop_is_found(stray: str) -> None:
    split, model = make_split(24, shape=(3, 16, 16)).to(DEVICE), network(3)
    model.register_forward_hook(lambda _, __, outputs: went_astray(outputs, stray))
    with pytest.raises(FOUND):
        compute_logits(Teacher(model, DEVICE, 8), plan_view(split, spec_of(*ALL["mixup"]), 1), left_on=DEVICE)


FOUND = (WaitingError, FakeTensorDeviceMismatchError)


def went_astray(values: torch.Tensor, stray: str) -> torch.Tensor:
    """Returns the same values by a way that waits for the device, or mixes devices."""
    if stray == "item":
        return values + 0 * values.sum().item()
    if stray == "cpu":
        return values.cpu().to(DEVICE)
    return values + torch.zeros(values.shape)


# Backward and the optimizer: torch's engine wants a device that is there, and `meta`, which has no
# values either, is there everywhere.


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Returns the device, for a run whose values are never looked at, before its first step or
    after.
    """
    monkeypatch.setattr("pipeline.training.trainer._weights", lambda _: {})
    monkeypatch.setattr("pipeline.training.moving_average._is_averaged", torch.Tensor.is_floating_point)
    monkeypatch.setattr("pipeline.training.trainer.computing_in", lambda *_: nullcontext())
    return torch.device("meta")


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_with_its_update_waits_for_no_device(tmp_path: Path, meta: torch.device, optimizer: str) -> None:
    codec = codec_of(LABELLED["topk"])
    outputs = torch.log_softmax(outputs_of(manifest_of(LABELLED["topk"]), SPLIT.sample_ids, 1), dim=1)
    targets = codec.decode(codec.encode(outputs, SPLIT.sample_ids, 1), 1.0).to(meta)
    batch = LabelledBatch(SPLIT.inputs.to(meta), torch.arange(len(SPLIT)) % 6, soft_targets=targets)
    objective = Objective(0.5, 0.5, 1.0, 0.1, build_loss(LOSS_ROWS["kd"], "test"))
    spec = ClassifierSpec("convnet_small", {"width": 4, "depth": 1}, num_classes=6, channels=1, mean=[0.4], std=[0.2])
    task = make_task(loss=lambda model, batch: objective(model, batch, meta), steps_per_epoch=9)
    trainer = Trainer(spec.build(), task, recipe(optimizer=optimizer), Workplace(tmp_path, meta, "meta"))
    for group in trainer.optimizer.param_groups:  # fused kernels want a device that is there
        group |= {"fused": False, "foreach": True}
    trainer.begin_epoch()
    for _ in range(2):
        trainer.step(batch)
    assert {parameter.grad.device for parameter in trainer.model.parameters() if parameter.grad is not None} == {meta}
    assert trainer.state.step == 2


def test_a_step_that_waits_is_found(tmp_path: Path, meta: torch.device) -> None:
    def loss(model: nn.Module, batch: LabelledBatch) -> torch.Tensor:
        value = model(batch.inputs).sum()
        return value if value > 0 else -value

    spec = ClassifierSpec("convnet_small", {"width": 4, "depth": 1}, num_classes=6, channels=1, mean=[0.4], std=[0.2])
    trainer = Trainer(spec.build(), make_task(loss=loss), recipe(), Workplace(tmp_path, meta, "meta"))
    trainer.begin_epoch()
    with pytest.raises(RuntimeError, match="meta"):
        trainer.step(LabelledBatch(SPLIT.inputs.to(meta), torch.arange(len(SPLIT)) % 6))
