"""Canaries pass on the views that the teacher saw, wherever these are now, and on no others."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split
from other_views import pixels_kept

import pipeline.views.plan
from pipeline.core.errors import StoreError
from pipeline.data.splits import SplitInMemory
from pipeline.labels.canaries import Canaries, check_canaries, make_canaries
from pipeline.views.operations.cutmix import CutMix
from pipeline.views.operations.resized_crop import ResizedCrop
from pipeline.views.plan import RowOrder
from pipeline.views.spec import ViewSpec, render

VIEWS, COUNT = [6, 0, 3, 9], 48


def some(split: SplitInMemory, rows: np.ndarray) -> SplitInMemory:
    return SplitInMemory(split.inputs[rows], split.hard_labels[rows], split.sample_ids[rows])


@pytest.fixture
def canaries(split: SplitInMemory, spec: ViewSpec) -> Canaries:
    return make_canaries(split, spec, VIEWS, COUNT)


def test_canaries_are_spread_over_all_views_and_many_samples(split: SplitInMemory, canaries: Canaries) -> None:
    numbers, counts = np.unique(canaries.views, return_counts=True)
    assert numbers.tolist() == sorted(VIEWS)
    assert counts.tolist() == [COUNT // len(VIEWS)] * len(VIEWS)
    assert len(set(canaries.sample_ids.tolist())) > COUNT // 2
    assert set(canaries.sample_ids.tolist()) <= set(split.sample_ids.tolist())


def test_canaries_are_the_same_again(split: SplitInMemory, spec: ViewSpec, canaries: Canaries) -> None:
    again = make_canaries(split, spec, np.array(VIEWS).tolist(), COUNT)
    for field in ("sample_ids", "views", "rendered"):
        np.testing.assert_array_equal(getattr(again, field), getattr(canaries, field))


def test_a_canary_is_the_view_as_it_is_rendered(split: SplitInMemory, spec: ViewSpec, canaries: Canaries) -> None:
    row = {int(sample): row for row, sample in enumerate(split.sample_ids)}
    for sample, view, pixels in zip(canaries.sample_ids, canaries.views, canaries.rendered, strict=True):
        draws = spec.draw(np.array([sample]), int(view))
        shown = render(split.inputs[[row[int(sample)]]], draws, spec)[0].numpy()
        np.testing.assert_array_equal(
            pixels_kept(spec.to_dict(), shown, int(sample), int(view), pixels.shape[1]), pixels
        )


def test_a_small_data_set_gives_no_more_canaries_than_it_has_views(spec: ViewSpec) -> None:
    canaries = make_canaries(make_split(3), spec, range(5, 7), count=100)
    assert canaries.views.tolist() == [5, 5, 5, 6, 6, 6]


def test_more_views_than_canaries_have_one_each_as_far_as_they_go(split: SplitInMemory, spec: ViewSpec) -> None:
    assert make_canaries(split, spec, range(10, 20), count=4).views.tolist() == [10, 11, 12, 13]


def test_views_of_other_numbers_are_other_views(split: SplitInMemory, spec: ViewSpec, canaries: Canaries) -> None:
    """Numbers count, and not places: the second of views 0 and 7 is view 7."""
    moved = Canaries(canaries.sample_ids, canaries.views + 1, canaries.rendered)
    with pytest.raises(StoreError, match="not what the teacher saw"):
        check_canaries(moved, split, spec, "store")


def test_all_pass_on_the_same_data(split: SplitInMemory, spec: ViewSpec, canaries: Canaries) -> None:
    assert check_canaries(canaries, split, spec, "store") == COUNT


def test_all_pass_on_data_in_another_order_and_with_images_added_and_repeated(
    split: SplitInMemory, spec: ViewSpec, canaries: Canaries
) -> None:
    assert check_canaries(canaries, some(split, np.arange(63, -1, -1)), spec, "store") == COUNT
    more = make_split(30, seed=9)
    larger = SplitInMemory(
        torch.cat([more.inputs, split.inputs, split.inputs[:9]]),
        torch.cat([more.hard_labels, split.hard_labels, split.hard_labels[:9]]),
        np.concatenate([more.sample_ids, split.sample_ids, split.sample_ids[:9]]),
    )
    assert check_canaries(canaries, larger, spec, "store") == COUNT


def test_those_of_images_that_are_there_pass_on_half_of_the_data(
    split: SplitInMemory, spec: ViewSpec, canaries: Canaries
) -> None:
    half = some(split, np.arange(0, 64, 2))
    expected = int(np.isin(canaries.sample_ids, half.sample_ids).sum())
    assert 0 < expected < COUNT
    assert check_canaries(canaries, half, spec, "store") == expected


def test_other_data_has_no_canaries(spec: ViewSpec, canaries: Canaries) -> None:
    assert check_canaries(canaries, make_split(64, seed=1), spec, "store") == 0
    assert check_canaries(canaries, make_split(64, shape=(3, 8, 8)), spec, "store") == 0


CHANGES = {
    "flipped": lambda views: views.flip(3),
    "shifted right": lambda views: views.roll(1, dims=3),
    "shifted down": lambda views: views.roll(1, dims=2),
    "rescaled": lambda views: (views.float() * 0.97).to(torch.uint8),
    "brighter": lambda views: views.clamp(max=250) + 3,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 64, 64)], ids=["small", "large"])
def test_a_change_of_the_code_that_renders_views_is_an_error_that_says_what_to_run(
    change: Callable[[torch.Tensor], torch.Tensor],
    shape: tuple[int, int, int],
    spec: ViewSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    split = make_split(16, shape=shape)
    canaries = make_canaries(split, spec, VIEWS, COUNT)
    monkeypatch.setattr(pipeline.views.plan, "render", lambda *views: change(render(*views)))
    with pytest.raises(
        StoreError, match=r"^store: \d+ of 48 views are not what the teacher saw.*dvc repro dump_labels"
    ):
        check_canaries(canaries, split, spec, "store")


def test_a_resampling_that_smears_pixels_is_an_error(
    split: SplitInMemory, spec: ViewSpec, canaries: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    def smear(*arguments: Any) -> torch.Tensor:
        views = render(*arguments).float()
        return torch.nn.functional.avg_pool2d(views, 3, stride=1, padding=1).to(torch.uint8)

    monkeypatch.setattr(pipeline.views.plan, "render", smear)
    with pytest.raises(StoreError, match="not what the teacher saw"):
        check_canaries(canaries, split, spec, "store")


def test_what_rounding_in_another_library_does_passes(
    split: SplitInMemory, spec: ViewSpec, canaries: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.views.plan, "render", lambda *views: render(*views).clamp(max=254) + 1)
    assert check_canaries(canaries, split, spec, "store") == COUNT


MIXED = ViewSpec(
    seed=5,
    plain_first=False,
    operations=(ResizedCrop(scale=(0.3, 1.0), ratio=(0.8, 1.25)), CutMix(alpha=1.0, probability=0.8)),
)
ORDER = RowOrder(make_split().sample_ids, 16)
CHANGED = {
    "seed": lambda views: views.update(seed=6),
    "the first one plain": lambda views: views.update(plain_first=True),
    "a range": lambda views: views["operations"][0].update(scale=[0.3, 0.95]),
    "another range": lambda views: views["operations"][0].update(ratio=[0.8, 1.3]),
    "how strongly it is mixed": lambda views: views["operations"][1].update(alpha=0.9),
    "how often it is mixed": lambda views: views["operations"][1].update(probability=0.9),
    "how it is mixed": lambda views: views["operations"][1].update(kind="mixup"),
    "an operation more": lambda views: views["operations"].insert(0, {"kind": "flip_vertical", "probability": 0.1}),
    "an operation less": lambda views: views["operations"].pop(0),
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_another_spec_is_an_error(change: Callable[[dict[str, Any]], object], split: SplitInMemory) -> None:
    canaries = make_canaries(split, MIXED, VIEWS, COUNT, ORDER)
    views = MIXED.to_dict()
    assert check_canaries(canaries, split, ViewSpec.from_dict(views, "store"), "store", ORDER) == COUNT
    change(views)
    with pytest.raises(StoreError, match="not what the teacher saw"):
        check_canaries(canaries, split, ViewSpec.from_dict(views, "store"), "store", ORDER)


def test_canaries_of_mixed_views_pass_in_another_order_and_not_with_other_blocks(split: SplitInMemory) -> None:
    canaries = make_canaries(split, MIXED, VIEWS, COUNT, ORDER)
    turned = some(split, np.arange(63, -1, -1))
    assert check_canaries(canaries, turned, MIXED, "store", ORDER) == COUNT
    with pytest.raises(StoreError, match="not what the teacher saw"):
        check_canaries(canaries, split, MIXED, "store", RowOrder(split.sample_ids, 32))
    with pytest.raises(StoreError, match="mixed of two images"):
        check_canaries(canaries, some(split, np.arange(40)), MIXED, "store", ORDER)


def test_one_wrong_view_is_named_by_sample_and_number(split: SplitInMemory, spec: ViewSpec, canaries: Canaries) -> None:
    pixels = canaries.rendered.copy()
    pixels[17] ^= 0x40
    wrong = Canaries(canaries.sample_ids, canaries.views, pixels)
    sample, view = int(canaries.sample_ids[17]), int(canaries.views[17])
    with pytest.raises(StoreError, match=rf"1 of 48 views .*sample {sample:016x}, view {view}, 64 of 255"):
        check_canaries(wrong, split, spec, "store")


def test_canaries_of_another_shape_are_refused(split: SplitInMemory, spec: ViewSpec, canaries: Canaries) -> None:
    some = {"points of shape (3, 16)": (COUNT, 3, 16), "thumbnails of shape (1, 8, 12)": (COUNT, 1, 8, 12)}
    for named, shape in some.items():
        other = Canaries(canaries.sample_ids, canaries.views, np.zeros(shape, dtype=np.uint8))
        with pytest.raises(StoreError, match=re.escape(f"store: inputs of shape (1, 12, 12); expected {named}")):
            check_canaries(other, split, spec, "store")
