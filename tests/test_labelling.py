"""Labelling: a store holds what the teacher says of the rendered views, and a check tells another teacher apart."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_split
from torch import nn

from pipeline.canaries import make_canaries
from pipeline.datasets import Split
from pipeline.errors import ModelError
from pipeline.labelling import Teacher, dump_labels, recompute_fidelity
from pipeline.models import build_model
from pipeline.store import Manifest, StoreReader, StoreWriter
from pipeline.views import ViewSpec, render

CPU = torch.device("cpu")
SPLIT = make_split(24)
SPEC = ViewSpec(seed=5, pad_px=2, flip_horizontal=True)
NUM_VIEWS = 2
FLOAT16: dict[str, Any] = {"kind": "dense_float16"}
UINT8: dict[str, Any] = {"kind": "dense_uint8", "range_nats": 40.0}


def teacher(seed: int = 1, batch_size: int = 64) -> Teacher:
    settings = {"width": 4, "depth": 1}
    model = build_model("convnet_small", settings, num_classes=4, channels=1, mean=[0.3], std=[0.2], seed=seed)
    model.train()(SPLIT.images)
    with torch.no_grad():
        model.network[-1].weight *= 100  # type: ignore[index, operator]
    return Teacher(model, CPU, batch_size)


def manifest(row: dict[str, Any]) -> Manifest:
    return Manifest(
        encoding=row,
        class_names=["a", "b", "c", "d"],
        num_views=NUM_VIEWS,
        num_samples=len(SPLIT),
        block_samples=10,
        temperature=1.0,
        temperatures=[1.0, 4.0],
        views=SPEC.to_dict(),
        dataset_fingerprint="00ff",
        teacher={"fingerprint": "11ee", "val_accuracy": 0.9},
    )


def begin(path: Path, row: dict[str, Any]) -> StoreWriter:
    canaries = make_canaries(SPLIT, SPEC, NUM_VIEWS, 6)
    return StoreWriter(path / "x.zarr", path / "records", manifest(row), SPLIT.sample_ids, canaries)


def dump(path: Path, row: dict[str, Any], at_work: Teacher) -> StoreReader:
    writer = begin(path, row)
    dump_labels(at_work, SPLIT, SPEC, manifest(row).blocks(), [writer], lambda count: None)
    writer.finish()
    return StoreReader(path / "x.zarr")


def says(at_work: Teacher, view: int) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = at_work.model.eval()(render(SPLIT.images, SPEC.draw(SPLIT.sample_ids, view), SPEC))
    return logits


@pytest.mark.parametrize(("row", "tolerance"), [(FLOAT16, 0.005), (UINT8, 0.05)])
def test_labels_are_what_the_teacher_says_of_the_rendered_views(
    tmp_path: Path, row: dict[str, Any], tolerance: float
) -> None:
    store = dump(tmp_path, row, teacher())
    said = [says(teacher(), view) for view in range(NUM_VIEWS)]
    assert (said[0] - said[1]).abs().max() > 0.5  # another view gets another label
    for view in range(NUM_VIEWS):
        for temperature in (1.0, 4.0):
            decoded = store.decode(store.read_view(view), temperature)
            exact = torch.log_softmax(said[view] / temperature, dim=1)
            torch.testing.assert_close(decoded, exact, rtol=tolerance, atol=tolerance)


def test_a_teacher_in_train_mode_labels_as_in_eval_mode_and_keeps_its_statistics(tmp_path: Path) -> None:
    at_work = teacher()
    before = {name: tensor.clone() for name, tensor in at_work.model.train().state_dict().items()}
    store = dump(tmp_path, FLOAT16, at_work)
    assert all(torch.equal(tensor, before[name]) for name, tensor in at_work.model.state_dict().items())
    exact = torch.log_softmax(says(teacher(), 0), dim=1)
    torch.testing.assert_close(store.decode(store.read_view(0), 1.0), exact, rtol=0.005, atol=0.005)


def test_the_batch_size_does_not_matter(tmp_path: Path) -> None:
    one, other = (dump(tmp_path / str(n), FLOAT16, teacher(batch_size=n)) for n in (3, 64))
    for view in range(NUM_VIEWS):
        labels = [store.decode(store.read_view(view), 1.0) for store in (one, other)]
        torch.testing.assert_close(*labels, rtol=2e-3, atol=1e-5)


class _Counting(nn.Module):
    """Counts the images that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.images += len(pixels)
        return pixels.float().flatten(1)[:, :4] / 64


def test_one_teacher_pass_serves_every_store_and_what_is_there_is_not_labelled_again(tmp_path: Path) -> None:
    counting, told = _Counting(), []
    blocks = manifest(FLOAT16).blocks()
    writers = [begin(tmp_path / row["kind"], row) for row in (FLOAT16, UINT8, {"kind": "none"})]
    dump_labels(Teacher(counting, CPU, 7), SPLIT, SPEC, blocks[:2], writers[:1], lambda count: None)
    assert counting.images == 20
    counting.images = 0
    dump_labels(Teacher(counting, CPU, 7), SPLIT, SPEC, blocks, writers, told.append)
    assert counting.images == sum(told) == NUM_VIEWS * len(SPLIT)
    dump_labels(Teacher(counting, CPU, 7), SPLIT, SPEC, blocks, writers, told.append)
    assert counting.images == NUM_VIEWS * len(SPLIT)
    assert sum(told) == 2 * NUM_VIEWS * len(SPLIT)
    for writer in writers:
        writer.finish()


class _Broken(nn.Module):
    """Gives a value that is not finite for one image."""

    def __init__(self, image: torch.Tensor, value: float) -> None:
        super().__init__()
        self.image, self.value = image, value

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(pixels), 4)
        logits[(pixels == self.image).flatten(1).all(dim=1), 2] = self.value
        return logits


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_output_that_is_not_finite_names_its_sample_and_is_not_stored(tmp_path: Path, value: float) -> None:
    row, blocks = 13, manifest(FLOAT16).blocks()
    pixels = render(SPLIT.images[row : row + 1], SPEC.draw(SPLIT.sample_ids[row : row + 1], 1), SPEC)
    writer = begin(tmp_path, FLOAT16)
    broken = Teacher(_Broken(pixels[0], value), CPU, 4)
    named = f"1 of 10 outputs in block view 1, samples 10 to 19 .* sample {int(SPLIT.sample_ids[row]):016x} .row 13 "
    with pytest.raises(ModelError, match=named):
        dump_labels(broken, SPLIT, SPEC, blocks, [writer], lambda count: None)
    assert [writer.has(block) for block in blocks] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("row", [FLOAT16, UINT8])
def test_the_same_teacher_is_near_the_stated_fidelity_and_another_is_far(tmp_path: Path, row: dict[str, Any]) -> None:
    store = dump(tmp_path, row, teacher())
    stated: Any = store.manifest.fidelity
    same = recompute_fidelity(teacher(), SPLIT, store, 200, seed=3)
    other = recompute_fidelity(teacher(seed=2), SPLIT, store, 200, seed=3)
    for temperature in ("1", "4"):
        now, then = same["kl_nats"][temperature], stated["kl_nats"][temperature]
        assert now["max"] <= 1.05 * then["max"] + 1e-6
        assert now["mean"] == pytest.approx(then["mean"], rel=0.2, abs=1e-6)
        assert other["kl_nats"][temperature]["mean"] > 100 * then["max"]
    assert same["top1_agreement"] == stated["top1_agreement"] == 1
    assert other["top1_agreement"] < 1


def test_the_check_follows_images_that_were_reordered_or_left_out(tmp_path: Path) -> None:
    store = dump(tmp_path, FLOAT16, teacher())
    rows = torch.arange(len(SPLIT)).flip(0)[:15]
    some = Split(SPLIT.images[rows], SPLIT.hard_labels[rows], SPLIT.sample_ids[rows.numpy()])
    assert recompute_fidelity(teacher(), some, store, 200, seed=3)["kl_nats"]["1"]["max"] < 1e-5


def test_the_check_of_wrong_labels_does_not_pass(tmp_path: Path) -> None:
    store = dump(tmp_path, FLOAT16, teacher())
    moved = Split(SPLIT.images.roll(1, 0), SPLIT.hard_labels, SPLIT.sample_ids)  # ids that do not fit the images
    assert recompute_fidelity(teacher(), moved, store, 200, seed=3)["kl_nats"]["1"]["mean"] > 0.01
