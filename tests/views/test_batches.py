"""Batches: every sample once an epoch, in an order of seed and epoch, with the view's pixels."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split

from pipeline.core.errors import StoreError
from pipeline.data.paging import window_order
from pipeline.data.splits import SplitInMemory
from pipeline.training.batches import Batch, num_steps
from pipeline.training.epochs import Epoch
from pipeline.views.operations.cutmix import CutMix
from pipeline.views.operations.flips import FlipHorizontal
from pipeline.views.operations.mixup import Mixup
from pipeline.views.plan import RowOrder, plan_view, view_batches
from pipeline.views.spec import ViewSpec, render


def epoch_of(split: SplitInMemory, spec: ViewSpec, **changes: Any) -> list[Batch]:
    start_step = changes.pop("start_step", 0)
    arguments: dict[str, Any] = {"view": 0, "number": 0, "batch_size": 8, "seed": 3, **changes}
    return list(Epoch(split, spec, **arguments).batches(start_step))


def numbered(split: SplitInMemory) -> SplitInMemory:
    """Returns the same images, each of a class of its own: hard labels show its rows."""
    return replace(split, hard_labels=torch.arange(len(split)))


def order_of(split: SplitInMemory, spec: ViewSpec, **changes: Any) -> list[int]:
    return torch.cat([batch.hard_labels for batch in epoch_of(numbered(split), spec, **changes)]).tolist()


@pytest.mark.parametrize(("batch_size", "sizes"), [(8, [8] * 8), (30, [30, 30]), (64, [64]), (100, [64])])
def test_an_epoch_has_every_sample_at_most_once_in_whole_batches(
    split: SplitInMemory, spec: ViewSpec, batch_size: int, sizes: list[int]
) -> None:
    batches = epoch_of(split, spec, batch_size=batch_size)
    rows = order_of(split, spec, batch_size=batch_size)
    assert [len(batch.inputs) for batch in batches] == sizes
    assert len(batches) == num_steps(len(split), batch_size)
    assert len(set(rows)) == len(rows) == sum(sizes)
    assert torch.equal(torch.cat([batch.hard_labels for batch in batches]), split.hard_labels[rows])


def test_samples_left_over_come_in_another_epoch(split: SplitInMemory, spec: ViewSpec) -> None:
    seen = set(itertools.chain.from_iterable(order_of(split, spec, batch_size=60, number=epoch) for epoch in range(8)))
    assert seen == set(range(len(split)))


def test_only_seed_and_epoch_decide_the_order(split: SplitInMemory, spec: ViewSpec) -> None:
    order = order_of(split, spec)
    torch.manual_seed(99)
    np.random.seed(99)
    assert order_of(split, spec) == order
    assert order_of(split, spec, batch_size=16, view=3) == order
    assert order_of(split, ViewSpec(seed=6, plain_first=False, operations=())) == order
    assert order_of(split, spec, number=1) != order
    assert order_of(split, spec, seed=4) != order
    assert order != sorted(order)


@pytest.mark.parametrize("start_step", [1, 5, 8])
def test_an_epoch_taken_up_in_the_middle_is_the_rest_of_it(
    split: SplitInMemory, spec: ViewSpec, start_step: int
) -> None:
    split = numbered(split)
    whole = epoch_of(split, spec, number=2, view=1)
    rest = epoch_of(split, spec, number=2, view=1, start_step=start_step)
    assert len(rest) == len(whole) - start_step
    for ours, theirs in zip(rest, whole[start_step:], strict=True):
        assert torch.equal(ours.hard_labels, theirs.hard_labels)
        assert torch.equal(ours.inputs, theirs.inputs)


@pytest.mark.parametrize("view", [0, 3])
def test_the_student_gets_the_very_pixels_that_the_teacher_got(split: SplitInMemory, spec: ViewSpec, view: int) -> None:
    for_teacher = torch.cat(list(view_batches(split, spec, view, range(len(split)), batch_size=7)))
    for epoch in (0, 5):
        for batch in epoch_of(numbered(split), spec, view=view, number=epoch):
            assert torch.equal(batch.inputs, for_teacher[batch.hard_labels])
    some = torch.cat(list(view_batches(split, spec, view, range(10, 40), batch_size=16)))
    assert torch.equal(some, for_teacher[10:40])
    assert not torch.equal(for_teacher, split.inputs)


@pytest.mark.parametrize("rows", [[5, 3, 60, 3], [7], list(range(63, -1, -1))], ids=["some", "one", "all"])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_a_view_of_any_rows_comes_in_their_order(
    split: SplitInMemory, spec: ViewSpec, rows: list[int], batch_size: int
) -> None:
    whole = torch.cat(list(view_batches(split, spec, 2, range(len(split)), batch_size=64)))
    batches = list(view_batches(split, spec, 2, np.array(rows), batch_size))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert torch.equal(torch.cat(batches), whole[rows])


@pytest.mark.parametrize("rows", [range(0), np.empty(0, np.int64)], ids=["range", "array"])
def test_no_rows_are_no_batches(split: SplitInMemory, spec: ViewSpec, rows: Any) -> None:
    assert list(view_batches(split, spec, 0, rows, 4)) == []


def test_the_order_of_an_epoch_is_the_order_of_its_batches(split: SplitInMemory, spec: ViewSpec) -> None:
    for epoch in (0, 3):
        order = window_order(np.arange(len(split)), epoch, seed=3).tolist()
        assert sorted(order) == list(range(len(split)))
        assert order_of(split, spec, number=epoch) == order


def test_plain_batches_are_the_images_in_their_order() -> None:
    split = make_split(10)
    batches = list(split.in_order(4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert torch.equal(torch.cat(batches), split.inputs)


# Views of two images.

FLIP = FlipHorizontal(probability=0.5)
MIXED = {
    "mixup": ViewSpec(seed=5, plain_first=False, operations=(FLIP, Mixup(alpha=1.0, probability=0.9))),
    "cutmix": ViewSpec(seed=5, plain_first=False, operations=(FLIP, CutMix(alpha=1.0, probability=0.9))),
}
EACH_MIXED = pytest.mark.parametrize("mixed", MIXED.values(), ids=MIXED)


def some(split: SplitInMemory, rows: Any) -> SplitInMemory:
    return SplitInMemory(split.inputs[rows], split.hard_labels[rows], split.sample_ids[np.array(rows)])


@EACH_MIXED
def test_mixed_batches_are_views_of_an_image_and_its_partner_with_both_labels(
    split: SplitInMemory, mixed: ViewSpec
) -> None:
    partners = mixed.partners(split.sample_ids, 2, len(split))
    draws = mixed.draw(split.sample_ids, 2)
    for batch in epoch_of(numbered(split), mixed, view=2):
        rows = batch.hard_labels
        others = torch.from_numpy(partners)[rows]
        views = render(split.inputs[rows], draws[rows], mixed, split.inputs[others], draws[others])
        assert torch.equal(batch.inputs, views)
        assert batch.partner_labels is not None
        assert batch.own_shares is not None
        assert torch.equal(batch.partner_labels, others)
        assert (batch.own_shares < 1).any()
        assert batch.own_shares.min() >= 0.5
    assert epoch_of(split, FLIPPED)[0].partner_labels is None
    assert epoch_of(split, FLIPPED)[0].own_shares is None


FLIPPED = ViewSpec(seed=5, plain_first=False, operations=(FLIP,))


@EACH_MIXED
@pytest.mark.parametrize("rows", [[5, 3, 60, 3], [7], list(range(16, 32))], ids=["some", "one", "a block"])
def test_any_rows_of_a_store_show_what_they_show_among_all(
    split: SplitInMemory, mixed: ViewSpec, rows: list[int]
) -> None:
    order = RowOrder(split.sample_ids, 16)
    whole = torch.cat(list(view_batches(split, mixed, 1, range(64), 64, order)))
    assert torch.equal(torch.cat(list(view_batches(split, mixed, 1, np.array(rows), 3, order))), whole[rows])
    apart = [
        torch.cat(list(view_batches(some(split, range(n, n + 16)), mixed, 1, range(16), 64))) for n in range(0, 64, 16)
    ]
    assert torch.equal(torch.cat(apart), whole)  # no block needs another one's images


@EACH_MIXED
def test_a_student_whose_images_lie_in_another_order_sees_the_views_of_the_store(
    split: SplitInMemory, mixed: ViewSpec
) -> None:
    order = RowOrder(split.sample_ids, 10)
    shuffled = np.random.default_rng(0).permutation(64)
    other = some(split, [*shuffled, 7, 7])  # with an image more than once
    stored, replayed = plan_view(split, mixed, 3, row_order=order), plan_view(other, mixed, 3, row_order=order)
    places = torch.from_numpy(np.array([*shuffled, 7, 7]))
    assert torch.equal(replayed.render(slice(None)), stored.render(places))
    for name in ("own_shares", "partner_labels"):
        assert torch.equal(getattr(replayed, name)(slice(None)), getattr(stored, name)(places))
    seen = torch.cat([b.inputs for b in epoch_of(other, mixed, view=3, row_order=order, batch_size=11)])
    assert torch.equal(seen, replayed.render(torch.from_numpy(window_order(np.arange(66), 0, seed=3))))


@EACH_MIXED
def test_an_image_that_a_store_has_twice_is_mixed_where_the_store_has_it_first(
    split: SplitInMemory, mixed: ViewSpec
) -> None:
    twice = some(split, [*range(20), 3])
    whole = plan_view(twice, mixed, 0, row_order=RowOrder(twice.sample_ids, 7)).render(slice(None))
    assert torch.equal(whole[20], whole[3])


@EACH_MIXED
@pytest.mark.parametrize("view", range(3))
def test_mixed_views_of_a_part_of_their_images_are_refused(split: SplitInMemory, mixed: ViewSpec, view: int) -> None:
    order = RowOrder(split.sample_ids, 16, "x.zarr")
    message = r"^x\.zarr: its views are mixed of two images, and \d+ of \d+ images are not here; expected every image of the store"
    with pytest.raises(StoreError, match=message):
        plan_view(some(split, range(63)), mixed, view, row_order=order)
    with pytest.raises(StoreError, match=r"\d of 65"):
        plan_view(some(split, [*range(64), 0]), mixed, view, row_order=RowOrder(split.sample_ids[1:], 16))
    plan_view(some(split, range(16, 48)), mixed, view, row_order=order)  # whole blocks will do
