"""`new_views`: an epoch beyond the stored views shows another one, beside a stored label."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from project import student
from stores import CLASSES, FLOAT16, SPEC, SPLIT, logits_of, make

from pipeline.core.config import validate
from pipeline.core.errors import ConfigError
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import Split
from pipeline.labels.reader import StoreReader
from pipeline.preparation.write import write_dataset
from pipeline.student.batches import LabelledBatch
from pipeline.student.groups import check_alike
from pipeline.student.labelled_views import LabelledViews, Placement
from pipeline.student.settings import TrainStudent
from pipeline.student.shown_views import FEW_VIEWS, MANY_EPOCHS, shown_view, views_line
from pipeline.training.batches import WHOLE, Share
from pipeline.views.operations.mixup import Mixup
from pipeline.views.spec import ViewSpec, render

STORED = [4, 0, 7]
BEYOND = [1, 2, 3, 5, 6, 8, 9]  # the views that are not stored, in the order in which they are shown
BATCH = 6
WHERE = "params.yaml: students.x"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    return make(tmp_path_factory.mktemp("new") / "x.zarr", FLOAT16, view_numbers=STORED)


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("data") / "prepare"
    write_dataset(folder, "made up", tuple(CLASSES), dict.fromkeys(("train", "val", "test"), SPLIT))
    return ImageDataset(folder).stream("train")


def opened(store: StoreReader, split: Split = SPLIT, *, new_views: bool = True) -> LabelledViews:
    budget = MemoryBudget(10**6, BATCH, "budget") if split.is_streamed else None
    return LabelledViews(split, store, CLASSES, 2.0, Placement(budget=budget), new_views=new_views)


def epoch_of(views: LabelledViews, epoch: int, start: int = 0, share: Share = WHOLE) -> Iterator[LabelledBatch]:
    return views.batches(epoch, start, batch_size=BATCH, seed=3, share=share)


def parts(batch: LabelledBatch) -> list[torch.Tensor]:
    assert isinstance(batch.soft_targets, torch.Tensor)
    return [batch.inputs, batch.hard_labels, batch.soft_targets]


def row_of(**changes: object) -> TrainStudent:
    row: TrainStudent = validate(TrainStudent, student(**changes), WHERE)
    return row


@pytest.mark.parametrize("place", ["in memory", "on disk"])
@pytest.mark.parametrize("epoch", range(9))
def test_each_epoch_shows_a_view_of_its_own_beside_the_label_of_a_stored_one(
    store: StoreReader, on_disk: Split, place: str, epoch: int
) -> None:
    views = opened(store, on_disk if place == "on disk" else SPLIT)
    shown = [*STORED, *BEYOND][epoch]
    rendered = render(SPLIT.inputs, SPEC.draw(SPLIT.sample_ids, shown), SPEC)
    rows = {image.numpy().tobytes(): row for row, image in enumerate(rendered)}
    assert len(rows) == len(SPLIT), "each view is known by its pixels"
    labels = torch.log_softmax(logits_of(SPLIT.sample_ids, STORED[epoch % 3]) / 2, dim=1)
    for images, hard_labels, soft_targets in map(parts, epoch_of(views, epoch)):
        own = torch.tensor([rows[image.numpy().tobytes()] for image in images])
        assert torch.equal(hard_labels, SPLIT.hard_labels[own])
        torch.testing.assert_close(soft_targets, labels[own], rtol=0.005, atol=0.005)


def test_stored_views_are_shown_as_without_the_setting(store: StoreReader) -> None:
    for epoch in range(3):
        for pair in zip(*(epoch_of(opened(store, new_views=new), epoch) for new in (True, False)), strict=True):
            assert all(map(torch.equal, *map(parts, pair)))


@pytest.mark.parametrize("epoch", [3, 5])
def test_an_epoch_of_new_views_is_taken_up_in_the_middle_and_shared_by_processes(
    store: StoreReader, epoch: int
) -> None:
    whole = [parts(batch) for batch in epoch_of(opened(store), epoch)]
    for start in range(len(whole) + 1):
        rest = [parts(batch) for batch in epoch_of(opened(store), epoch, start)]
        assert len(rest) == len(whole) - start
        assert all(all(map(torch.equal, *pair)) for pair in zip(rest, whole[start:], strict=True))
    each = [[parts(batch) for batch in epoch_of(opened(store), epoch, share=Share(rank, 2))] for rank in range(2)]
    for (*shown, targets), one, other in zip(whole, *each, strict=True):
        (*halves, half), (*others, other_half) = one, other
        assert all(map(torch.equal, map(torch.cat, zip(halves, others, strict=True)), shown))
        # A processor's vector units may round the last bit otherwise in a batch of another size.
        torch.testing.assert_close(torch.cat([half, other_half]), targets)


@pytest.mark.parametrize("stored", [[0], [0, 1, 2], [2, 0], [5, 1, 3]])
def test_no_view_is_shown_twice_and_labels_come_in_turn(stored: list[int]) -> None:
    shown = [shown_view(stored, epoch, new_views=True) for epoch in range(12)]
    assert [view for _, view in shown[: len(stored)]] == stored
    assert len({view for _, view in shown}) == 12
    assert max(view for _, view in shown) < 12 + max(stored)
    assert [index for index, _ in shown] == [epoch % len(stored) for epoch in range(12)]


@pytest.mark.parametrize(
    ("soft_weight", "mixes", "new_views"), [(0.5, True, True), (0.5, True, False), (0.0, True, True)]
)
def test_a_label_of_two_mixed_samples_serves_no_other_view(
    store: StoreReader, soft_weight: float, mixes: bool, new_views: bool
) -> None:
    row = row_of(labels="x", soft_weight=soft_weight, new_views=new_views)
    if not (soft_weight and new_views):
        row.check_labels(store.encoding, store.codec, mixes, WHERE)
        return
    with pytest.raises(ConfigError) as caught:
        row.check_labels(store.encoding, store.codec, mixes, WHERE)
    line = str(caught.value)
    assert line.startswith(f"{WHERE}.new_views: true, and each view of 'x' mixes two samples")
    assert len(line) <= 500
    assert "\n" not in line


def test_students_of_one_group_see_the_same_views() -> None:
    rows = {"one": row_of(new_views=True), "other": row_of()}
    with pytest.raises(ConfigError, match=r"students\.other\.new_views: False, but True in students\.one\.new_views"):
        check_alike(rows, {}, "students")


MIXED = replace(SPEC, operations=(*SPEC.operations, Mixup(alpha=0.4, probability=1.0)))
PLAIN = ViewSpec(seed=0, plain_first=True, operations=())


@pytest.mark.parametrize(
    ("changes", "spec", "stored", "epochs", "said"),
    [
        ({"new_views": True}, SPEC, 2, 3, ""),
        ({"new_views": True}, SPEC, 3, 3, "changes nothing: 3 of 3 epochs have a stored view"),
        ({"new_views": True}, PLAIN, 1, 3, "changes nothing: the views of its store are the inputs as they are"),
        ({}, SPEC, 1, MANY_EPOCHS, "6 epochs show 1 stored view again and again; new_views: true is likely better"),
        ({}, SPEC, 1, MANY_EPOCHS - 1, ""),
        ({}, SPEC, FEW_VIEWS + 1, 100, ""),
        ({}, MIXED, 1, 100, ""),
        ({}, PLAIN, 1, 100, ""),
        ({"soft_weight": 0.0, "new_views": True}, SPEC, 3, 3, ""),
        ({"soft_weight": 0.0}, SPEC, 1, 100, ""),
    ],
)
def test_what_changes_nothing_or_would_serve_is_told(
    changes: dict[str, object], spec: ViewSpec, stored: int, epochs: int, said: str
) -> None:
    row = row_of(**changes, fit=student()["fit"] | {"epochs": epochs})
    line = views_line(row, spec, stored)
    assert (said in line) if said and line else not (said or line)
