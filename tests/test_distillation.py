"""Distillation: a label stays with its image and its view, unfit stores are refused, and the objective is the paper's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split
from torch import nn

import pipeline.canaries
from pipeline.canaries import make_canaries
from pipeline.datasets import Split
from pipeline.distillation import LabelledBatch, LabelledViews, Objective
from pipeline.errors import StoreError
from pipeline.labelling import Teacher, dump_labels
from pipeline.models import Classifier, build_model
from pipeline.store import Manifest, StoreReader, StoreWriter
from pipeline.views import ViewSpec, render

CPU = torch.device("cpu")
SPLIT = make_split(40)
SPEC = ViewSpec(seed=5, pad_px=2, flip_horizontal=True)
NUM_VIEWS, CLASSES = 3, ["a", "b", "c", "d"]
FLOAT16: dict[str, Any] = {"kind": "dense_float16"}


def network(seed: int) -> Classifier:
    settings = {"width": 4, "depth": 1}
    model = build_model("convnet_small", settings, num_classes=4, channels=1, mean=[0.3], std=[0.2], seed=seed)
    model.train()(SPLIT.images)
    with torch.no_grad():
        model.network[-1].weight *= 100  # type: ignore[index, operator]
    return model.eval()


TEACHER = network(1)


def make_store(folder: Path, row: dict[str, Any]) -> StoreReader:
    manifest = Manifest(
        encoding=row,
        class_names=CLASSES,
        num_views=NUM_VIEWS,
        num_samples=len(SPLIT),
        block_samples=16,
        temperature=1.0,
        temperatures=[1.0],
        views=SPEC.to_dict(),
        dataset_fingerprint="00ff",
        teacher=None,
    )
    canaries = make_canaries(SPLIT, SPEC, NUM_VIEWS, 24)
    writer = StoreWriter(folder / "x.zarr", folder / "records", manifest, SPLIT.sample_ids, canaries)
    dump_labels(Teacher(TEACHER, CPU, 64), SPLIT, SPEC, manifest.blocks(), [writer], lambda count: None)
    writer.finish()
    return StoreReader(folder / "x.zarr")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    return make_store(tmp_path_factory.mktemp("dense"), FLOAT16)


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    return make_store(tmp_path_factory.mktemp("none"), {"kind": "none"})


def take(rows: list[int]) -> Split:
    return Split(SPLIT.images[rows], SPLIT.hard_labels[rows], SPLIT.sample_ids[rows])


def epoch_of(views: LabelledViews, epoch: int, start_step: int = 0) -> Iterator[LabelledBatch]:
    return views.batches(epoch, start_step, batch_size=8, seed=0)


SHUFFLED = np.random.default_rng(0).permutation(len(SPLIT)).tolist()


@pytest.mark.parametrize(
    "rows",
    [list(range(40)), SHUFFLED, SHUFFLED[:20], [*SHUFFLED[:24], *SHUFFLED[:8]]],
    ids=["all", "mixed", "half", "twice"],
)
def test_labels_follow_their_image_and_their_view(store: StoreReader, rows: list[int]) -> None:
    views = LabelledViews(take(rows), store, CLASSES)
    for epoch in range(NUM_VIEWS):
        batches = list(epoch_of(views, epoch))
        assert len(batches) == views.steps_per_epoch(8) == len(rows) // 8
        for batch in batches:
            with torch.no_grad():
                exact = torch.log_softmax(TEACHER(batch.images), dim=1)
            torch.testing.assert_close(store.decode(batch.soft_labels, 1.0), exact, rtol=0.005, atol=0.005)
    spread = torch.log_softmax(TEACHER(SPLIT.images), dim=1).std(dim=0).min()
    assert spread > 0.05  # labels differ by more than the tolerance: a mix-up would show


def test_hard_labels_stay_with_their_image(store: StoreReader) -> None:
    views = LabelledViews(take(SHUFFLED), store, CLASSES)
    rendered = render(SPLIT.images, SPEC.draw(SPLIT.sample_ids, 1), SPEC)
    for batch in epoch_of(views, 1):
        for image, label in zip(batch.images, batch.hard_labels, strict=True):
            row = int((rendered == image).flatten(1).all(dim=1).nonzero()[0])
            assert label == SPLIT.hard_labels[row]


def test_epochs_go_through_the_views_in_turn(store: StoreReader) -> None:
    views = LabelledViews(SPLIT, store, CLASSES)

    def seen(images: torch.Tensor) -> set[bytes]:
        return {image.numpy().tobytes() for image in images}

    rendered = [seen(render(SPLIT.images, SPEC.draw(SPLIT.sample_ids, view), SPEC)) for view in range(NUM_VIEWS)]
    assert rendered[0] != rendered[1] != rendered[2] != rendered[0]
    for epoch in range(2 * NUM_VIEWS + 1):
        images = torch.cat([batch.images for batch in epoch_of(views, epoch)])
        assert seen(images) == rendered[epoch % NUM_VIEWS]


def test_an_epoch_taken_up_in_the_middle_is_the_rest_of_it(store: StoreReader) -> None:
    views = LabelledViews(SPLIT, store, CLASSES)
    for ours, theirs in zip(epoch_of(views, 4, 2), list(epoch_of(views, 4))[2:], strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.hard_labels, theirs.hard_labels)
        assert torch.equal(ours.soft_labels["log_probs"], theirs.soft_labels["log_probs"])


def test_a_store_for_other_data_is_refused(store: StoreReader) -> None:
    with pytest.raises(StoreError, match=r"x\.zarr: holds labels for other data.*dvc repro dump_labels"):
        LabelledViews(make_split(40, seed=9), store, CLASSES)


def test_a_store_that_lacks_some_images_is_refused_with_their_number(store: StoreReader) -> None:
    other = make_split(5, seed=9)
    mixed = Split(
        torch.cat([SPLIT.images, other.images]),
        torch.cat([SPLIT.hard_labels, other.hard_labels]),
        np.concatenate([SPLIT.sample_ids, other.sample_ids]),
    )
    with pytest.raises(StoreError, match="has no label for 5 of 45 training images"):
        LabelledViews(mixed, store, CLASSES)


@pytest.mark.parametrize("names", [["a", "b", "d", "c"], ["a", "b", "c"]])
def test_a_store_of_other_classes_is_refused(store: StoreReader, names: list[str]) -> None:
    with pytest.raises(StoreError, match=r"classes \['a', 'b', 'c', 'd'\]; expected"):
        LabelledViews(SPLIT, store, names)


def test_views_that_are_rendered_otherwise_are_refused_before_the_first_batch(
    store: StoreReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unflipped(images: torch.Tensor, draws: torch.Tensor, spec: ViewSpec) -> torch.Tensor:
        return render(images, draws * torch.tensor([1, 1, 0]), spec)

    monkeypatch.setattr(pipeline.canaries, "render", unflipped)
    with pytest.raises(StoreError, match=r"of 24 views are not what the teacher saw \(first: sample [0-9a-f]{16}"):
        LabelledViews(SPLIT, store, CLASSES)


def test_views_are_not_trusted_where_the_store_lost_its_canaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, {"kind": "none"})
    for file in (store.path / "canary_sample_ids").glob("c/*"):
        file.unlink()
    with pytest.raises(StoreError):
        LabelledViews(SPLIT, StoreReader(store.path), CLASSES)


class _Fixed(nn.Module):
    """Says the same of any image; its logits are parameters."""

    def __init__(self, count: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.logits = nn.Parameter(2 * torch.randn(count, 4, generator=generator, dtype=torch.float64))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(pixels)]


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize(("hard_weight", "soft_weight"), [(0.1, 0.9), (1.0, 0.0), (0.0, 1.0), (2.0, 3.0)])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_objective_is_the_papers(
    store: StoreReader, temperature: float, hard_weight: float, soft_weight: float, label_smoothing: float
) -> None:
    batch = next(epoch_of(LabelledViews(SPLIT, store, CLASSES), 0))
    model = _Fixed(8)
    loss = Objective(hard_weight, soft_weight, temperature, label_smoothing, store)(model, batch, CPU)

    student, stored = model.logits.detach().numpy(), batch.soft_labels["log_probs"].double().numpy()

    def softmax(scores: np.ndarray) -> np.ndarray:
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    one_hot = np.eye(4)[batch.hard_labels.numpy()] * (1 - label_smoothing) + label_smoothing / 4
    hard = -(one_hot * np.log(softmax(student))).sum(axis=1).mean()
    target, guess = softmax(stored / temperature), softmax(student / temperature)
    soft = (target * np.log(target / guess)).sum(axis=1).mean()
    expected = hard_weight * hard + soft_weight * temperature**2 * soft
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)

    loss.backward()
    assert model.logits.grad is not None
    gradient = hard_weight * (softmax(student) - one_hot) + soft_weight * temperature * (guess - target)
    np.testing.assert_allclose(model.logits.grad, gradient / 8, rtol=1e-4, atol=1e-6)


def test_hard_labels_alone_need_no_soft_labels_and_see_the_same_views(
    store: StoreReader, unlabelled: StoreReader
) -> None:
    pairs = zip(
        epoch_of(LabelledViews(SPLIT, store, CLASSES), 1),
        epoch_of(LabelledViews(SPLIT, unlabelled, CLASSES), 1),
        strict=True,
    )
    student = network(2)
    for of_student, of_twin in pairs:
        assert torch.equal(of_student.images, of_twin.images)
        assert torch.equal(of_student.hard_labels, of_twin.hard_labels)
        assert of_twin.soft_labels == {}
        loss = Objective(1.0, 0.0, 4.0, 0.0, unlabelled)(student, of_twin, CPU)
        assert torch.equal(loss, Objective(1.0, 0.0, 4.0, 0.0, store)(student, of_student, CPU))


def test_soft_labels_that_are_not_there_are_refused(unlabelled: StoreReader) -> None:
    batch = next(epoch_of(LabelledViews(SPLIT, unlabelled, CLASSES), 0))
    with pytest.raises(StoreError, match="holds no soft labels"):
        Objective(0.5, 0.5, 4.0, 0.0, unlabelled)(network(2), batch, CPU)
