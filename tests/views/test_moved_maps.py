"""Maps of classes: a view moves them exactly as it moves the pixels of its image."""

from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split

from pipeline.core.errors import ConfigError
from pipeline.data.splits import SplitInMemory
from pipeline.training.epochs import Epoch
from pipeline.views.maps import need_maps
from pipeline.views.operations.rectangles import place, side_length
from pipeline.views.plan import RowOrder, plan_view
from pipeline.views.spec import ViewSpec

Row = dict[str, Any]
FLIPS: list[Row] = [{"kind": kind, "probability": 0.5} for kind in ("flip_horizontal", "flip_vertical")]
SHIFT: Row = {"kind": "pad_crop", "pad_px": 3}
CROP: Row = {"kind": "resized_crop", "scale": [0.1, 1.0], "ratio": [0.5, 2.0]}
ERASING: Row = {"kind": "erasing", "probability": 1.0, "scale": [0.2, 0.6], "ratio": [0.5, 2.0], "fill_level": 9}
COLOURS: list[Row] = [{"kind": kind, "strength": 0.9} for kind in ("brightness", "contrast", "saturation")]
CUTMIX: Row = {"kind": "cutmix", "alpha": 1.0, "probability": 0.8}
MIXUP: Row = {"kind": "mixup", "alpha": 0.8, "probability": 0.6}
SHAPE = (3, 9, 7)


def spec_of(*rows: Row, plain_first: bool = False) -> ViewSpec:
    return ViewSpec.from_dict({"seed": 11, "plain_first": plain_first, "operations": list(rows)}, "test")


def with_maps(count: int, shape: tuple[int, int, int] = SHAPE) -> SplitInMemory:
    """Returns images whose levels, in every channel, are their classes and 1."""
    split = make_split(count, shape=(1, *shape[1:]))
    levels = split.inputs // 2 + 1
    maps = levels[:, 0].to(torch.int16) - 1
    return SplitInMemory(levels.expand(-1, shape[0], -1, -1).contiguous(), maps, split.sample_ids)


MOVES = {
    "flips": FLIPS,
    "pad_crop": [SHIFT],
    "cutmix": [CUTMIX],
    "all": [SHIFT, *FLIPS, CUTMIX],
    "none": [],
}


@pytest.mark.parametrize("rows", MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("size", [(3, 9, 7), (1, 16, 16)])
def test_a_map_moves_as_an_image_does_whose_levels_are_its_classes(rows: list[Row], size: tuple[int, int, int]) -> None:
    split, every = with_maps(40, size), slice(None)
    plan = plan_view(split, spec_of(*rows), 3)
    maps = plan.labels(every)
    assert maps.dtype == torch.int16
    assert torch.equal(maps, plan.render(every)[:, 0].to(torch.int16) - 1)  # level 0, from outside, is unknown
    assert (plan.partner_labels(every), plan.own_shares(every)) == (None, None)
    some = torch.tensor([7, 2, 30])
    assert torch.equal(plan.labels(some), maps[some])


@pytest.mark.parametrize("size", [(9, 7), (8, 8), (1, 6), (33, 20)])
def test_a_crop_takes_the_class_of_the_pixel_that_each_centre_lies_in(size: tuple[int, int]) -> None:
    split, spec = with_maps(12, (1, *size)), spec_of(CROP)
    plan = plan_view(split, spec, 5)
    twin = torch.empty_like(split.hard_labels)
    for number, draws in enumerate(plan.draws):
        picks = [picked(draws[None], axis, size) for axis in (0, 1)]
        twin[number] = split.hard_labels[number][picks[0]][:, picks[1]]
    assert torch.equal(plan.labels(slice(None)), twin)


def picked(draws: torch.Tensor, axis: int, size: tuple[int, int]) -> list[int]:
    """Returns the old row or column of each new one, in fractions."""
    length = side_length(draws[:, axis], size[axis], size[0] * size[1], 256)
    start = place(draws[:, 2 + axis], length, 256 * size[axis])
    begin, side = Fraction(int(start), 256), Fraction(int(length), 256)
    return [floor(begin + side * Fraction(2 * new + 1, 2 * size[axis])) for new in range(size[axis])]


def test_what_moves_no_pixel_leaves_maps() -> None:
    split = with_maps(10)
    for rows in ([ERASING], COLOURS):
        plan = plan_view(split, spec_of(*rows), 1)
        assert not torch.equal(plan.render(slice(None)), split.inputs)
        assert torch.equal(plan.labels(slice(None)), split.hard_labels)


def test_the_plain_view_has_the_maps_themselves() -> None:
    split = with_maps(10)
    plan = plan_view(split, spec_of(SHIFT, CROP, *FLIPS, ERASING, CUTMIX, plain_first=True), 0)
    assert torch.equal(plan.labels(slice(None)), split.hard_labels)


def test_a_blended_view_has_no_map_and_one_that_is_not_has_its_own() -> None:
    split = with_maps(40)
    plan = plan_view(split, spec_of(MIXUP), 1)
    maps, blended = plan.labels(slice(None)), plan.draws[:, 0] < 1 << 16
    assert 0 < blended.sum() < len(split)
    assert (maps[blended] == -1).all()
    assert torch.equal(maps[~blended], split.hard_labels[~blended])


def test_hard_labels_of_blended_views_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"train_teacher\.views: views with mixup") as refused:
        need_maps(spec_of(MIXUP), "grid", "train_teacher.views")
    assert len(str(refused.value)) < 500
    need_maps(spec_of(CUTMIX), "grid", "")
    need_maps(spec_of(MIXUP), "categorical", "")


@pytest.mark.parametrize("rows", [[SHIFT, *FLIPS], [SHIFT, CUTMIX]], ids=["plain", "cutmix"])
def test_batches_have_the_maps_of_their_views(rows: list[Row]) -> None:
    split, spec = with_maps(20), spec_of(*rows)
    for batch in Epoch(split, spec, view=2, number=1, batch_size=8, seed=3).batches():
        assert batch.hard_labels.shape == (8, 9, 7)
        assert torch.equal(batch.hard_labels, batch.inputs[:, 0].to(torch.int16) - 1)


def test_partners_are_those_of_the_store() -> None:
    split, spec = with_maps(20), spec_of(CUTMIX)
    order = RowOrder(np.ascontiguousarray(split.sample_ids[::-1]), 5)
    plan = plan_view(split, spec, 2, row_order=order)
    assert torch.equal(plan.labels(slice(None)), plan.render(slice(None))[:, 0].to(torch.int16) - 1)
