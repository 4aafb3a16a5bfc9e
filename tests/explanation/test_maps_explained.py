"""Images with maps of classes: which are shown, whose map looks wrong, and in which colours."""

import doctest

import numpy as np
import pytest
import torch
from maps import by_brightness, make_maps

from pipeline.explanation import class_colours as colours_file
from pipeline.explanation.class_colours import UNKNOWN, class_colours, paint
from pipeline.explanation.shown_maps import MapSheet, choose_test
from pipeline.explanation.suspect_maps import contradicted_maps, contradicted_share, far_out
from pipeline.explanation.tiles import TileSheet

CPU = torch.device("cpu")


def test_planted_wrong_maps_are_found_worst_first() -> None:
    split = make_maps(60)
    split.hard_labels[7] = (split.hard_labels[7] + 1) % 3  # everywhere another class
    split.hard_labels[20, :4] = 2
    split.hard_labels[31] = -1
    seen: list[int] = []
    found = contradicted_maps(by_brightness(10), split, CPU, 16, seen.append)  # type: ignore[arg-type]
    assert found.places.tolist() == [7, 20]
    assert found.shares[0] > 0.9 > found.shares[1] > 0.1
    assert (found.num_checked, sum(seen)) == (59, 60)


def test_a_share_is_of_the_known_positions() -> None:
    probs = torch.tensor([[[[0.75, 0.5]], [[0.25, 0.5]]]]).repeat(3, 1, 1, 1)
    maps = torch.tensor([[[0, 1]], [[1, -1]], [[-1, -1]]], dtype=torch.int16)
    assert contradicted_share(probs.log(), maps).tolist() == pytest.approx([0.375, 0.75, 0.0])


@pytest.mark.parametrize(
    ("shares", "expected"),
    [([0.01, 0.02, 0.03, 0.5, 0.9, 0.02], [4, 3]), ([0.001] * 9 + [0.04], []), ([0.4] * 5, []), ([], [])],
)
def test_a_suspect_is_far_above_the_others(shares: list[float], expected: list[int]) -> None:
    low = [0.01] * 20 if expected else []
    assert (far_out(np.array(shares + low)) if shares else far_out(np.empty(0))).tolist() == expected


def test_the_best_the_usual_and_the_worst_images_are_shown_with_their_reasons() -> None:
    ious = {"one": torch.arange(20) / 20, "two": torch.arange(20) / 40}
    disagreement = torch.zeros(20)
    disagreement[[3, 0]] = torch.tensor([2.0, 1.0])
    found = choose_test(ious, disagreement, 2)
    assert [place for place, kinds in found.items() if "best" in kinds] == [19, 18, 17, 16]
    assert {place for place, kinds in found.items() if kinds == ["median"]} == {8, 9, 10, 11}
    assert found[3] == found[0] == ["students disagree", "worst"]
    assert list(found)[:2] == [3, 0]
    assert set(choose_test(ious, None, 2)) == {0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19}


def test_classes_have_colours_of_their_own() -> None:
    assert doctest.testmod(colours_file).failed == 0
    assert class_colours(21)[[15, 20]].tolist() == [[192, 128, 128], [0, 64, 128]]  # person, tv monitor
    assert len(np.unique(class_colours(256), axis=0)) == 256
    painted = paint(np.array([[0, 2], [-1, 1]], dtype=np.int16), class_colours(3))
    assert painted[:, 0, 1].tolist() == [86, 180, 233]
    assert tuple(painted[:, 1, 0]) == UNKNOWN


def test_a_row_names_the_tiles_of_an_image_its_map_and_those_of_networks() -> None:
    split, sheet = make_maps(2, size=8), MapSheet(3, TileSheet(8, 8))
    maps = {"small": np.zeros((8, 8), np.uint8)}
    sheet.add("test", 5, split.take(np.array([1])), maps, kinds=["best"], iou={"small": 0.5})
    (row,) = sheet.rows
    assert (row.image, row.mask, row.maps, row.index, row.iou) == (0, 1, {"small": 2}, 5, {"small": 0.5})
    assert row.id == f"{int(split.sample_ids[1]):016x}"
