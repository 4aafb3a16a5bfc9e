"""Samples without a hard label: they learn from soft labels alone; encoded images."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split
from project import small_params, student, write_params
from stores import CLASSES, NONE, SPEC, UINT8, Row, make
from test_objective import DKD, KD, NKD, Fixed, batch_of, loss_of, softmax

from pipeline.core import arrays
from pipeline.core.arrays import ArrayGroup
from pipeline.core.errors import ConfigError, DataError
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.decoding import to_png
from pipeline.data.hard_labels import UNLABELLED
from pipeline.data.splits import Split, SplitInMemory
from pipeline.labels.reader import StoreReader
from pipeline.preparation.write import write_dataset
from pipeline.student.batches import LabelledBatch
from pipeline.student.labelled_views import LabelledViews, Placement
from pipeline.student.objective import Objective
from pipeline.views.operations.flips import FlipHorizontal
from pipeline.views.operations.mixup import Mixup
from pipeline.views.spec import ViewSpec, render
from stages import dump_labels, evaluate, inspect_labels, prepare, train_student, train_teacher, verify_labels

CPU = torch.device("cpu")
BATCH, VIEW = 8, 1


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Makes pages of 4 images of 144 bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "CHUNK_BYTES", 4 * 144)
        patch.setattr("pipeline.data.images.IMAGE_CHUNK_BYTES", 4 * 144)
        patch.setattr("pipeline.data.budget.PAGE_BYTES", 4 * 400)
        yield


# The objective.


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_hard_part_of_an_unlabelled_image_is_zero_in_the_batchs_mean(label_smoothing: float) -> None:
    labels = torch.tensor([0, -1, 2, -1, -1, 1, 3, -1])
    batch, model = batch_of(hard_labels=labels), Fixed(8)
    soft = Objective(0.0, 0.7, 1.0, label_smoothing, loss_of())(model, batch_of(), CPU).item()
    found = Objective(0.4, 0.7, 1.0, label_smoothing, loss_of())(model, batch, CPU)
    log_probs, known = np.log(softmax(model.logits.detach().numpy())), np.flatnonzero(labels >= 0)
    targets = (1 - label_smoothing) * np.eye(4)[labels[known]] + label_smoothing / 4
    hard = -(targets * log_probs[known]).sum(axis=1).sum() / 8
    assert found.item() == pytest.approx(0.4 * hard + soft, rel=1e-6)
    (gradient,) = torch.autograd.grad(
        Objective(1.0, 0.0, 1.0, label_smoothing, loss_of())(model, batch, CPU), model.logits
    )
    expected = np.zeros((8, 4))
    expected[known] = (np.exp(log_probs[known]) - targets) / 8
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_a_batch_without_any_hard_label_has_no_hard_part() -> None:
    batch, model = batch_of(hard_labels=torch.full((8,), UNLABELLED)), Fixed(8)
    soft = Objective(0.0, 0.5, 1.0, 0.0, loss_of())(model, batch, CPU)
    assert torch.equal(Objective(1.0, 0.5, 1.0, 0.0, loss_of())(model, batch, CPU), soft)
    assert Objective(1.0, 0.0, 1.0, 0.0, loss_of())(model, batch, CPU).item() == 0


def test_a_mixed_image_has_a_hard_part_where_both_labels_are_known() -> None:
    labels, partners = torch.tensor([0, 1, -1, 3, 0, -1, 2, 3]), torch.tensor([1, -1, 2, 0, 1, -1, 3, 2])
    shares, model = torch.linspace(0.5, 1, 8), Fixed(8)
    batch = batch_of(hard_labels=labels, partner_labels=partners, own_shares=shares)
    known = torch.tensor([0, 3, 4, 6, 7])
    some = Fixed(5)
    some.logits.data = model.logits.data[known]
    expected = Objective(1.0, 0.0, 1.0, 0.0, loss_of())(
        some,
        batch_of(5, hard_labels=labels[known], partner_labels=partners[known], own_shares=shares[known]),
        CPU,
    )
    assert Objective(1.0, 0.0, 1.0, 0.0, loss_of())(model, batch, CPU).item() == pytest.approx(expected.item() * 5 / 8)


@pytest.mark.parametrize("row", [DKD, NKD])
def test_a_loss_that_needs_hard_labels_refuses_data_without(row: Row) -> None:
    loss_of(row).check_data(0, "here")
    with pytest.raises(ConfigError, match=rf"here: kind '{row['kind']}' needs hard labels, and 3 training samples"):
        loss_of(row).check_data(3, "here")
    loss_of(KD).check_data(3, "here")


# Batches.


def write_pets(folder: Path, split: SplitInMemory, names: Sequence[str]) -> dict[str, Any]:
    """Writes a split as PNG files in class folders; returns the settings of this source."""
    for row, (pixels, label) in enumerate(zip(split.inputs.numpy(), split.hard_labels.tolist(), strict=True)):
        path = folder / ("_unlabelled" if label == UNLABELLED else names[label]) / f"{row:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_png(pixels))
    return {"kind": "folder", "path": str(folder)}


WHOLE = make_split(48)
LABELS = WHOLE.hard_labels.clone()
LABELS[np.random.default_rng(0).permutation(48)[:24]] = UNLABELLED
SPLIT = replace(WHOLE, hard_labels=LABELS)
MIXED = ViewSpec(
    seed=5, plain_first=False, operations=(FlipHorizontal(probability=0.5), Mixup(probability=1.0, alpha=1.0))
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, quick: None) -> ImageDataset:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, "made up", CLASSES, {"train": SPLIT, "val": make_split(8), "test": make_split(8)})
    return ImageDataset(folder)


def store_of(folder: Path, row: Row, spec: ViewSpec = SPEC) -> StoreReader:
    return make(folder / "x.zarr", row, SPLIT, views=spec.to_dict())


def opened(split: Split, store: StoreReader, temperature: float | None) -> LabelledViews:
    budget = MemoryBudget(4 * 3 * 4 * (144 + 256) + 5 * BATCH * 144, BATCH, "budget")
    return LabelledViews(split, store, CLASSES, temperature, Placement(budget=budget))


def epoch_of(views: LabelledViews, start: int = 0, size: int = BATCH) -> list[LabelledBatch]:
    return list(views.batches(VIEW, start, batch_size=size, seed=3))


def same(one: LabelledBatch, other: LabelledBatch) -> bool:
    parts = [
        [part for part in (b.inputs, b.hard_labels, b.soft_targets, b.partner_labels, b.own_shares) if part is not None]
        for b in (one, other)
    ]
    return all(torch.equal(a, b) for a, b in zip(*parts, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("streamed", [False, True])
def test_hard_labels_alone_train_on_labelled_images_alone(
    dataset: ImageDataset, tmp_path: Path, streamed: bool
) -> None:
    views = opened(dataset.stream("train") if streamed else dataset.split("train"), store_of(tmp_path, NONE), None)
    batches = epoch_of(views)
    assert len(batches) == views.steps_per_epoch(BATCH) == 3
    images = render(SPLIT.inputs, SPEC.draw(SPLIT.sample_ids, VIEW), SPEC)
    place = {image.numpy().tobytes(): row for row, image in enumerate(images)}
    rows = [place[image.numpy().tobytes()] for batch in batches for image in batch.inputs]
    assert sorted(rows) == np.flatnonzero(LABELS != UNLABELLED).tolist()
    assert rows != sorted(rows)
    assert torch.equal(torch.cat([batch.hard_labels for batch in batches]), LABELS[rows])
    for start in range(3):
        assert all(same(a, b) for a, b in zip(epoch_of(views, start), batches[start:], strict=True))


@pytest.mark.parametrize("streamed", [False, True])
def test_soft_labels_train_on_all_images(dataset: ImageDataset, tmp_path: Path, streamed: bool) -> None:
    views = opened(dataset.stream("train") if streamed else dataset.split("train"), store_of(tmp_path, UINT8), 2.0)
    labels = torch.cat([batch.hard_labels for batch in epoch_of(views)])
    assert views.steps_per_epoch(BATCH) == 6
    assert sorted(labels.tolist()) == sorted(LABELS.tolist())


@pytest.mark.parametrize("streamed", [False, True])
def test_labelled_images_may_be_mixed_with_unlabelled_ones(
    dataset: ImageDataset, tmp_path: Path, streamed: bool
) -> None:
    views = opened(
        dataset.stream("train") if streamed else dataset.split("train"), store_of(tmp_path, NONE, MIXED), None
    )
    batches = epoch_of(views)
    assert len(batches) == 3
    assert min(int(batch.hard_labels.min()) for batch in batches) >= 0
    partners = torch.cat([batch.partner_labels for batch in batches])  # type: ignore[misc]
    assert (partners == UNLABELLED).any()
    assert (partners != UNLABELLED).any()


def test_less_labelled_images_than_a_batch_make_one(dataset: ImageDataset, tmp_path: Path) -> None:
    (batch,) = epoch_of(opened(dataset.split("train"), store_of(tmp_path, NONE), None), size=40)
    assert len(batch.inputs) == 24


# Labelled images alone.


@pytest.mark.parametrize("storage", ["pixels", "encoded"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_labelled_of_a_split_on_disk_are_those_of_memory(tmp_path: Path, storage: str, share: float) -> None:
    pets = make_split(300)
    pets.hard_labels[np.random.default_rng(1).random(300) > share] = UNLABELLED
    source = write_pets(tmp_path / "pets", pets, CLASSES)
    settings = {"source": source, "storage": storage, "val_fraction": 0.2, "test_fraction": 0.2}
    write_params(tmp_path, {"prepare": small_params()["prepare"] | settings})
    prepare.main(tmp_path / "params.yaml", tmp_path / "raw", tmp_path / "data", tmp_path / "work")
    made = ImageDataset(tmp_path / "data")
    streamed, held = made.stream("train").labelled(), made.split("train").labelled()
    count = len(held)
    assert 0 < count < len(made.split("train"))
    assert len(streamed) == count
    assert torch.equal(streamed.hard_labels, held.hard_labels)
    np.testing.assert_array_equal(streamed.sample_ids, held.sample_ids)
    for size in (1, 5, 300):
        assert torch.equal(torch.cat(list(streamed.in_order(size))), held.inputs)
    assert torch.equal(torch.cat(list(streamed.in_order(2, slice(1, count)))), held.inputs[1:])
    some = np.array([count - 1, 0, count // 2])
    taken = streamed.take(some)
    assert torch.equal(taken.inputs, held.inputs[some])
    assert torch.equal(taken.hard_labels, held.hard_labels[some])
    assert streamed.labelled() is streamed


def test_where_all_are_labelled_a_split_stays_as_it_is(dataset: ImageDataset) -> None:
    for split in (dataset.stream("val"), dataset.split("val")):
        assert split.labelled() is split


def test_each_chunk_with_labelled_images_is_read_once_and_by_itself(
    dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = dataset.stream("train").labelled()
    real, reads = ArrayGroup.read_rows, list[range]()
    monkeypatch.setattr(
        ArrayGroup, "read_rows", lambda group, name, *at: (reads.append(range(*at)), real(group, name, *at))[1]
    )
    split.read(range(len(split)))
    assert [rows.start // 4 for rows in reads] == [(rows.stop - 1) // 4 for rows in reads]
    assert [rows.start // 4 for rows in reads] == np.unique(np.flatnonzero(LABELS != UNLABELLED) // 4).tolist()


def test_a_damaged_image_is_found_among_the_labelled(tmp_path: Path) -> None:
    first = int(np.flatnonzero(LABELS != UNLABELLED)[0])
    ids = SPLIT.sample_ids.copy()
    ids[first] ^= np.uint64(1)
    wrong = replace(SPLIT, sample_ids=ids)
    write_dataset(tmp_path / "x", "made up", CLASSES, {"train": wrong, "val": make_split(8), "test": make_split(8)})
    with pytest.raises(DataError, match=r"train\.zarr: some images are not those of their sample ids"):
        ImageDataset(tmp_path / "x").stream("train").labelled().read(range(2))


# Encoded images.


@pytest.mark.parametrize("temperature", [None, 2.0])
def test_batches_of_files_are_those_of_pixels_in_memory_and_streamed(tmp_path: Path, temperature: float | None) -> None:
    source = write_pets(tmp_path / "pets", make_split(60, classes=6), CLASSES)
    datasets = {}
    for storage in ("pixels", "encoded"):
        settings = {"source": source, "storage": storage, "val_fraction": 0.2, "test_fraction": 0.2}
        write_params(tmp_path, {"prepare": small_params()["prepare"] | settings})
        prepare.main(tmp_path / "params.yaml", tmp_path / "raw", tmp_path / storage, tmp_path / "work")
        datasets[storage] = ImageDataset(tmp_path / storage)
    split = datasets["pixels"].split("train")
    store = make(tmp_path / "x.zarr", UINT8, split)
    expected = epoch_of(opened(split, store, temperature))
    for batches in (
        epoch_of(opened(datasets["encoded"].split("train"), store, temperature)),
        epoch_of(opened(datasets["encoded"].split("train"), store, temperature), 1),
    ):
        assert all(same(a, b) for a, b in zip(batches, expected[-len(batches) :], strict=True))
    streamed = [epoch_of(opened(dataset.stream("train"), store, temperature)) for dataset in datasets.values()]
    assert len(streamed[0]) == len(expected)
    assert all(same(a, b) for a, b in zip(*streamed, strict=True))
    assert not all(same(a, b) for a, b in zip(streamed[0], expected, strict=True))  # the order is that of windows


# From raw images to the report.


def write_students(folder: Path, source: dict[str, Any] | None = None, storage: str = "pixels", **changes: Any) -> None:
    """Writes the params of a student and its twin."""
    params = small_params()
    params["prepare"] |= {"source": source, "storage": storage, "val_fraction": 0.2}
    params["encodings"] = {name: params["encodings"][name] for name in ("dense8", "none")}
    params["students"] = {
        "small": student(**changes),
        "small_hard": student(labels="none", twin_of="small", hard_weight=1.0, soft_weight=0.0, **changes),
    }
    write_params(folder, params)


def run_all(folder: Path, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs every stage in a folder of its own."""
    pets = make_split(240, shape=(3, 12, 12), classes=3)
    pets.hard_labels[torch.arange(240) % 2 == 1] = UNLABELLED
    source = write_pets(folder / "pets", pets, ("ant", "bee", "cat"))
    write_students(folder, source, storage)
    monkeypatch.chdir(folder)
    prepare.main()
    train_teacher.main()
    dump_labels.main()
    verify_labels.main()
    for name in ("small", "small_hard"):
        train_student.main(name, labels="data/dump_labels")
    evaluate.main()


def test_every_stage_takes_unlabelled_images_pixels_and_files_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 256 * 1024)
    monkeypatch.setattr("pipeline.data.images.IMAGE_CHUNK_BYTES", 256 * 1024)
    for storage in ("pixels", "encoded"):
        folder = tmp_path / storage
        folder.mkdir()
        run_all(folder, storage, monkeypatch)
        said = capsys.readouterr().err
        assert "(120 of them unlabelled)" in said
        assert (
            "train_student@small_hard: hard labels alone, so on the 87 labelled of 207 samples: 1 steps per epoch"
            in said
        )
    store = StoreReader(tmp_path / "encoded/data/dump_labels/dense8.zarr")
    train = ImageDataset(tmp_path / "encoded/data/prepare").split("train")
    assert store.manifest.num_samples == len(train) == 207
    row = int(np.flatnonzero(train.hard_labels == UNLABELLED)[0])
    inspect_labels.main(str(store.path), f"row:{row}", None, 5, None, Path("data/prepare"), False)
    shown = capsys.readouterr().out
    assert "hard label: it is unlabelled" in shown
    for part in (
        "train_teacher",
        "dump_labels/dense8.zarr/log_prob_codes",
        "train_student/small",
        "train_student/small_hard",
    ):
        ours, theirs = (
            {
                file.relative_to(tmp_path / storage): file.read_bytes()
                for file in (tmp_path / storage / "data" / part).rglob("*")
                if file.is_file() and file.suffix != ".json"
            }
            for storage in ("pixels", "encoded")
        )
        assert ours
        assert ours == theirs, part
    for changes, told in (
        ({"loss": DKD}, "students.small.loss: kind 'dkd' needs hard labels, and 120 training samples are unlabelled"),
        ({"group": "all"}, "soft_weight: one of .* is 0, and only soft labels can use unlabelled samples"),
    ):
        write_students(tmp_path / "encoded", **changes)
        with pytest.raises(ConfigError, match=told):
            train_student.main("small", labels="data/dump_labels")
