"""Batches: every sample once an epoch, an order that only seed and epoch decide, and the pixels of the view."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split

from pipeline.batches import Batch, epoch_order, num_steps, plain_batches, training_batches, view_batches
from pipeline.datasets import Split
from pipeline.views import ViewSpec


def epoch_of(split: Split, spec: ViewSpec, **changes: Any) -> list[Batch]:
    arguments: dict[str, Any] = {"view": 0, "epoch": 0, "batch_size": 8, "seed": 3, **changes}
    return list(training_batches(split, spec, **arguments))


def order_of(split: Split, spec: ViewSpec, **changes: Any) -> list[int]:
    return torch.cat([batch.row_index for batch in epoch_of(split, spec, **changes)]).tolist()


@pytest.mark.parametrize(("batch_size", "sizes"), [(8, [8] * 8), (30, [30, 30]), (64, [64]), (100, [64])])
def test_an_epoch_has_every_sample_at_most_once_in_whole_batches(
    split: Split, spec: ViewSpec, batch_size: int, sizes: list[int]
) -> None:
    batches = epoch_of(split, spec, batch_size=batch_size)
    rows = torch.cat([batch.row_index for batch in batches]).tolist()
    assert [len(batch.images) for batch in batches] == sizes
    assert len(batches) == num_steps(len(split), batch_size)
    assert len(set(rows)) == len(rows) == sum(sizes)
    for batch in batches:
        assert torch.equal(batch.hard_labels, split.hard_labels[batch.row_index])


def test_samples_left_over_come_in_another_epoch(split: Split, spec: ViewSpec) -> None:
    seen = set(itertools.chain.from_iterable(order_of(split, spec, batch_size=60, epoch=epoch) for epoch in range(8)))
    assert seen == set(range(len(split)))


def test_only_seed_and_epoch_decide_the_order(split: Split, spec: ViewSpec) -> None:
    order = order_of(split, spec)
    torch.manual_seed(99)
    np.random.seed(99)
    assert order_of(split, spec) == order
    assert order_of(split, spec, batch_size=16, view=3) == order
    assert order_of(split, ViewSpec(seed=6, pad_px=0, flip_horizontal=False)) == order
    assert order_of(split, spec, epoch=1) != order
    assert order_of(split, spec, seed=4) != order
    assert order != sorted(order)


@pytest.mark.parametrize("start_step", [1, 5, 8])
def test_an_epoch_taken_up_in_the_middle_is_the_rest_of_it(split: Split, spec: ViewSpec, start_step: int) -> None:
    whole = epoch_of(split, spec, epoch=2, view=1)
    rest = epoch_of(split, spec, epoch=2, view=1, start_step=start_step)
    assert len(rest) == len(whole) - start_step
    for ours, theirs in zip(rest, whole[start_step:], strict=True):
        assert torch.equal(ours.row_index, theirs.row_index)
        assert torch.equal(ours.images, theirs.images)


@pytest.mark.parametrize("view", [0, 3])
def test_the_student_gets_the_very_pixels_that_the_teacher_got(split: Split, spec: ViewSpec, view: int) -> None:
    for_teacher = torch.cat(list(view_batches(split, spec, view, range(len(split)), batch_size=7)))
    for epoch in (0, 5):
        for batch in epoch_of(split, spec, view=view, epoch=epoch):
            assert torch.equal(batch.images, for_teacher[batch.row_index])
    some = torch.cat(list(view_batches(split, spec, view, range(10, 40), batch_size=16)))
    assert torch.equal(some, for_teacher[10:40])
    assert not torch.equal(for_teacher, split.images)


@pytest.mark.parametrize("rows", [[5, 3, 60, 3], [7], list(range(63, -1, -1))], ids=["some", "one", "all"])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_a_view_of_any_rows_comes_in_their_order(
    split: Split, spec: ViewSpec, rows: list[int], batch_size: int
) -> None:
    whole = torch.cat(list(view_batches(split, spec, 2, range(len(split)), batch_size=64)))
    batches = list(view_batches(split, spec, 2, np.array(rows), batch_size))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert torch.equal(torch.cat(batches), whole[rows])


@pytest.mark.parametrize("rows", [range(0), np.empty(0, np.int64)], ids=["range", "array"])
def test_no_rows_are_no_batches(split: Split, spec: ViewSpec, rows: Any) -> None:
    assert list(view_batches(split, spec, 0, rows, 4)) == []


def test_the_order_of_an_epoch_is_the_order_of_its_batches(split: Split, spec: ViewSpec) -> None:
    for epoch in (0, 3):
        order = epoch_order(len(split), epoch, seed=3).tolist()
        assert sorted(order) == list(range(len(split)))
        assert order_of(split, spec, epoch=epoch) == order


def test_plain_batches_are_the_images_in_their_order() -> None:
    split = make_split(10)
    batches = list(plain_batches(split, 4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert torch.equal(torch.cat(batches), split.images)
