"""Distillation: a label stays with its image and its view, and unfit stores are refused."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_split
from stores import FLOAT16, NONE, REST, SAMPLED, SPEC, TOPK, Row, manifest_of, take

import pipeline.student.labelled_views
import pipeline.views.plan
from pipeline.core.errors import StoreError
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.dump import dump_labels
from pipeline.labelling.target import Target
from pipeline.labelling.teacher import Teacher
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import build_encoding
from pipeline.labels.join import match_rows
from pipeline.labels.reader import StoreReader
from pipeline.labels.targets import SparseTargets
from pipeline.models import Classifier, ClassifierSpec
from pipeline.student.batches import LabelledBatch
from pipeline.student.labelled_views import LabelledViews
from pipeline.views.spec import ViewSpec, render

CPU = torch.device("cpu")
SPLIT = make_split(40)
VIEWS, CLASSES = [4, 0, 7], ["a", "b", "c", "d"]


def network(seed: int) -> Classifier:
    settings = {"width": 4, "depth": 1}
    model = ClassifierSpec("convnet_small", settings, num_classes=4, channels=1, mean=[0.3], std=[0.2]).build(seed)
    model.train()(SPLIT.inputs)
    with torch.no_grad():
        model.network[-1].weight *= 100  # type: ignore[index, operator]
    return model.eval()


TEACHER = network(1)


def make_store(folder: Path, row: Row, view_numbers: Sequence[int] = VIEWS) -> StoreReader:
    """Writes a teacher's labels of views whose numbers do not begin with 0; returns the store."""
    manifest = manifest_of(row, SPLIT, view_numbers, class_names=CLASSES, block_samples=16, teacher=None)
    canaries = make_canaries(SPLIT, SPEC, view_numbers, 24)
    pilot = torch.log_softmax(2 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    tables = build_encoding(row, "test").learn(pilot, manifest.space)
    writer = StoreWriter(folder / "x.zarr", folder / "records", manifest, SPLIT.sample_ids, canaries, tables)
    dump_labels(Teacher(TEACHER, CPU, 64), SPLIT, manifest.blocks(), [Target(writer)], lambda count: None)
    writer.finish()
    return StoreReader(folder / "x.zarr")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, unflushed: None) -> dict[str, StoreReader]:
    rows = {"dense": FLOAT16, "prior": TOPK, "rest": REST, "sampled": SAMPLED, "none": NONE}
    return {name: make_store(tmp_path_factory.mktemp(name), row) for name, row in rows.items()}


@pytest.fixture(scope="module")
def store(stores: dict[str, StoreReader]) -> StoreReader:
    return stores["dense"]


def opened(store: StoreReader, split: SplitInMemory = SPLIT, temperature: float | None = 1.0) -> LabelledViews:
    return LabelledViews(split, store, CLASSES, temperature)


def epoch_of(views: LabelledViews, epoch: int, start_step: int = 0, batch_size: int = 8) -> Iterator[LabelledBatch]:
    return views.batches(epoch, start_step, batch_size=batch_size, seed=0)


def dense(batch: LabelledBatch) -> torch.Tensor:
    assert isinstance(batch.soft_targets, torch.Tensor)
    return batch.soft_targets


def sparse(batch: LabelledBatch) -> SparseTargets:
    assert isinstance(batch.soft_targets, SparseTargets)
    return batch.soft_targets


SHUFFLED = np.random.default_rng(0).permutation(len(SPLIT)).tolist()


# A label stays with its image and its view.


@pytest.mark.parametrize(
    "rows",
    [list(range(40)), SHUFFLED, SHUFFLED[:20], [*SHUFFLED[:24], *SHUFFLED[:8]]],
    ids=["all", "mixed", "half", "twice"],
)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_labels_follow_their_image_and_their_view(store: StoreReader, rows: list[int], temperature: float) -> None:
    views = opened(store, take(rows, SPLIT), temperature)
    for epoch in range(len(VIEWS)):
        batches = list(epoch_of(views, epoch))
        assert len(batches) == views.steps_per_epoch(8) == len(rows) // 8
        for batch in batches:
            with torch.no_grad():
                exact = torch.log_softmax(TEACHER(batch.inputs) / temperature, dim=1)
            torch.testing.assert_close(dense(batch), exact, rtol=0.005, atol=0.005)
    spread = torch.log_softmax(TEACHER(SPLIT.inputs) / temperature, dim=1).std(dim=0).min()
    assert spread > 0.02  # labels differ by more than the tolerance: a mix-up would show


@pytest.mark.parametrize("window", [1, 2, 3, 64])
@pytest.mark.parametrize(("batch_size", "steps"), [(8, 5), (7, 5), (40, 1), (64, 1)])
def test_labels_are_the_same_in_whatever_windows_they_are_decoded(
    stores: dict[str, StoreReader], monkeypatch: pytest.MonkeyPatch, window: int, batch_size: int, steps: int
) -> None:
    monkeypatch.setattr(pipeline.student.labelled_views, "_DECODED_BATCHES", window)
    for name in ("dense", "rest"):
        store = stores[name]
        for start_step in range(steps + 1):
            batches = list(epoch_of(opened(store), 1, start_step, batch_size))
            assert len(batches) == steps - start_step
            for batch in batches:
                assert len(batch.inputs) == min(batch_size, 40)
                with torch.no_grad():
                    exact = torch.log_softmax(TEACHER(batch.inputs), dim=1)
                if name == "dense":
                    torch.testing.assert_close(dense(batch), exact, rtol=0.005, atol=0.005)
                else:
                    assert torch.equal(sparse(batch).classes[:, 0], exact.argmax(dim=1))


def test_a_resumed_epoch_decodes_what_an_uninterrupted_one_did(
    store: StoreReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same windows, since a library may round otherwise in others."""
    windows, targets = [], store.codec.targets

    def spy(fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor | SparseTargets:
        windows.append(fields["log_probs"])
        return targets(fields, temperature)

    monkeypatch.setattr(store.codec, "targets", spy)
    monkeypatch.setattr(pipeline.student.labelled_views, "_DECODED_BATCHES", 2)
    list(epoch_of(opened(store), 0))
    whole = [window.tolist() for window in windows]
    assert [len(window) for window in whole] == [16, 16, 8]
    for start_step, first in ((1, 0), (2, 1), (3, 1), (4, 2)):
        windows.clear()
        list(epoch_of(opened(store), 0, start_step))
        assert [window.tolist() for window in windows] == whole[first:]


def test_hard_labels_stay_with_their_image(store: StoreReader) -> None:
    views = opened(store, take(SHUFFLED, SPLIT))
    rendered = render(SPLIT.inputs, SPEC.draw(SPLIT.sample_ids, VIEWS[1]), SPEC)
    for batch in epoch_of(views, 1):
        for image, label in zip(batch.inputs, batch.hard_labels, strict=True):
            row = int((rendered == image).flatten(1).all(dim=1).nonzero()[0])
            assert label == SPLIT.hard_labels[row]


def test_epochs_go_through_the_views_in_turn_by_their_numbers(store: StoreReader) -> None:
    views = opened(store)

    def seen(images: torch.Tensor) -> set[bytes]:
        return {image.numpy().tobytes() for image in images}

    rendered = [seen(render(SPLIT.inputs, SPEC.draw(SPLIT.sample_ids, view), SPEC)) for view in VIEWS]
    assert rendered[0] != rendered[1] != rendered[2] != rendered[0]
    for epoch in range(2 * len(VIEWS) + 1):
        images = torch.cat([batch.inputs for batch in epoch_of(views, epoch)])
        assert seen(images) == rendered[epoch % len(VIEWS)]


def test_an_epoch_taken_up_in_the_middle_is_the_rest_of_it(store: StoreReader) -> None:
    views = opened(store)
    for ours, theirs in zip(epoch_of(views, 4, 2), list(epoch_of(views, 4))[2:], strict=True):
        assert torch.equal(ours.inputs, theirs.inputs)
        assert torch.equal(ours.hard_labels, theirs.hard_labels)
        assert torch.equal(dense(ours), dense(theirs))


@pytest.mark.parametrize("name", ["prior", "rest", "sampled"])
def test_an_encoding_gives_its_loss_what_that_learns_from(stores: dict[str, StoreReader], name: str) -> None:
    for batch in epoch_of(opened(stores[name]), 2):
        with torch.no_grad():
            exact = torch.log_softmax(TEACHER(batch.inputs), dim=1)
        if name == "prior":
            assert torch.equal(dense(batch).argmax(dim=1), exact.argmax(dim=1))
            torch.testing.assert_close(dense(batch).exp().sum(dim=1), torch.ones(8))
            continue
        targets = sparse(batch)
        mass = targets.log_probs.exp().sum(dim=1)
        if name == "rest":
            assert targets.log_rest is not None
            kept = exact.gather(1, targets.classes)
            torch.testing.assert_close(targets.log_probs, kept, rtol=0.01, atol=0.05)
            mass = mass + targets.log_rest.exp()
        else:
            assert targets.log_rest is None
        torch.testing.assert_close(mass, torch.ones(8))


# Unfit stores are refused.


def test_a_store_for_other_data_is_refused(store: StoreReader) -> None:
    with pytest.raises(StoreError, match=r"x\.zarr: holds labels for other data.*dvc repro dump_labels"):
        opened(store, make_split(40, seed=9))


def test_a_store_that_lacks_some_images_is_refused_with_their_number(store: StoreReader) -> None:
    other = make_split(5, seed=9)
    mixed = SplitInMemory(
        torch.cat([SPLIT.inputs, other.inputs]),
        torch.cat([SPLIT.hard_labels, other.hard_labels]),
        np.concatenate([SPLIT.sample_ids, other.sample_ids]),
    )
    with pytest.raises(StoreError, match="has no label for 5 of 45 training samples"):
        opened(store, mixed)


def test_a_part_of_the_data_needs_no_store_of_its_own(store: StoreReader) -> None:
    rows = SHUFFLED[:11]
    np.testing.assert_array_equal(match_rows(take(rows, SPLIT), store), rows)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b", "d", "c"], r"class 2 is 'c'; expected 'd' \(data/prepare\)"),
        (["a", "B", "c", "D"], r"class 1 is 'b'; expected 'B' \(data/prepare\)"),
        (["a", "b", "c"], r"labels of 4 classes; expected 3 classes"),
        (["a", "b", "c", "d", "e"], r"labels of 4 classes; expected 5 classes"),
    ],
)
def test_a_store_of_other_classes_is_refused_by_the_first_that_differs(
    store: StoreReader, names: list[str], message: str
) -> None:
    with pytest.raises(StoreError, match=rf"x\.zarr: {message}.*dvc repro dump_labels"):
        LabelledViews(SPLIT, store, names, 1.0)


@pytest.mark.parametrize(("name", "able"), [("prior", "1, 2, 4"), ("rest", "1, 2, 4"), ("sampled", "1;")])
def test_a_temperature_that_a_store_can_not_serve_is_refused_before_the_first_batch(
    stores: dict[str, StoreReader], name: str, able: str
) -> None:
    with pytest.raises(StoreError, match=f"3, which this store can't serve.*: {able}"):
        opened(stores[name], temperature=3.0)
    opened(stores[name], temperature=None)


def test_views_that_are_rendered_otherwise_are_refused_before_the_first_batch(
    store: StoreReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unflipped(images: torch.Tensor, draws: torch.Tensor, spec: ViewSpec, *partners: None) -> torch.Tensor:
        return render(images, draws * torch.tensor([1, 1, 0]), spec, *partners)

    monkeypatch.setattr(pipeline.views.plan, "render", unflipped)
    with pytest.raises(StoreError, match=r"of 24 views are not what the teacher saw \(first: sample [0-9a-f]{16}"):
        opened(store)


def test_views_are_not_trusted_where_the_store_lost_its_canaries(tmp_path: Path) -> None:
    store = make_store(tmp_path, NONE)
    for file in (store.path / "canary_sample_ids").glob("c/*"):
        file.unlink()
    with pytest.raises(StoreError):
        opened(StoreReader(store.path), temperature=None)


# Students of hard labels.


def test_hard_labels_alone_need_no_soft_labels_and_see_the_same_views(stores: dict[str, StoreReader]) -> None:
    pairs = zip(
        epoch_of(opened(stores["dense"], temperature=4.0), 1),
        epoch_of(opened(stores["none"], temperature=None), 1),
        strict=True,
    )
    for of_student, of_twin in pairs:
        assert torch.equal(of_student.inputs, of_twin.inputs)
        assert torch.equal(of_student.hard_labels, of_twin.hard_labels)
        assert of_twin.soft_targets is None


def test_labels_that_nobody_asked_for_are_not_read(store: StoreReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(StoreReader, "read_view")
    assert len(list(epoch_of(opened(store, temperature=None), 0))) == 5


def test_soft_labels_that_are_not_there_are_refused(stores: dict[str, StoreReader]) -> None:
    with pytest.raises(StoreError, match="holds no soft labels"):
        next(epoch_of(opened(stores["none"], temperature=4.0), 0))
