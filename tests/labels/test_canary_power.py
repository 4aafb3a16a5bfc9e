"""Sixteen pixels of a view refuse what its thumbnail, the canary of format 1, refuses: all of
these, on images as smooth as photographs.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

import pipeline.views.plan
from pipeline.core.errors import StoreError
from pipeline.data.sample_ids import sample_ids
from pipeline.data.splits import SplitInMemory
from pipeline.labels.canaries import Canaries, check_canaries, make_canaries
from pipeline.views.spec import ViewSpec, render

OPERATIONS: list[dict[str, Any]] = [
    {"kind": "resized_crop", "scale": [0.4, 1.0], "ratio": [0.75, 1.33]},
    {"kind": "flip_horizontal", "probability": 0.5},
    {"kind": "brightness", "strength": 0.4},
    {"kind": "contrast", "strength": 0.4},
    {"kind": "saturation", "strength": 0.4},
    {"kind": "erasing", "probability": 0.3, "scale": [0.02, 0.2], "ratio": [0.3, 3.3], "fill_level": 0},
]
SPEC = ViewSpec.from_dict({"seed": 3, "plain_first": False, "operations": OPERATIONS}, "test")
CROPPED = ViewSpec.from_dict(
    {"seed": 3, "plain_first": False, "operations": [{"kind": "pad_crop", "pad_px": 2}, OPERATIONS[1]]}, "test"
)
COUNT = 128


def smooth(shape: tuple[int, int, int]) -> SplitInMemory:
    """Returns images that are as smooth as photographs, where neighbours differ by a few levels."""
    torch.manual_seed(0)
    coarse = torch.rand(200, shape[0], 6, 6) * 255
    images = torch.nn.functional.interpolate(coarse, shape[1:], mode="bicubic").clamp(0, 255).to(torch.uint8)
    return SplitInMemory(images, torch.zeros(200, dtype=torch.int64), sample_ids(images.numpy()))


SPLITS = {"small": smooth((3, 32, 32)), "large": smooth((3, 96, 80))}


@cache
def canaries_of(name: str, spec: ViewSpec) -> Canaries:
    return make_canaries(SPLITS[name], spec, range(4), COUNT)


def changed(number: int, **settings: Any) -> list[dict[str, Any]]:
    rows = [dict(row) for row in OPERATIONS]
    rows[number] |= settings
    return rows


RENDERED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "shifted right": lambda views: views.roll(1, dims=3),
    "shifted down": lambda views: views.roll(1, dims=2),
    "mirrored": lambda views: views.flip(3),
    "channels swapped": lambda views: views.flip(1),
    "a little darker": lambda views: (views.float() * 0.985).to(torch.uint8),
    "three levels brighter": lambda views: views.clamp(max=252) + 3,
    "smeared": lambda views: torch.nn.functional.avg_pool2d(views.float(), 5, stride=1, padding=2).to(torch.uint8),
    "one image of eight changed": lambda views: torch.cat([views[: len(views) // 8].flip(2), views[len(views) // 8 :]]),
    "one image changed": lambda views: torch.cat([255 - views[:1], views[1:]]),
}
SPECS: dict[str, dict[str, Any]] = {
    "another seed": {"seed": 4},
    "plain first": {"plain_first": True},
    "an operation less": {"operations": OPERATIONS[:-1]},
    "another order": {"operations": [OPERATIONS[n] for n in (0, 1, 3, 2, 4, 5)]},
    "scale": {"operations": changed(0, scale=[0.42, 1.0])},
    "ratio": {"operations": changed(0, ratio=[0.75, 1.3])},
    "flips": {"operations": changed(1, probability=0.47)},
    "brightness": {"operations": changed(2, strength=0.38)},
    "contrast": {"operations": changed(3, strength=0.36)},
    "saturation": {"operations": changed(4, strength=0.36)},
    "more erased": {"operations": changed(5, probability=0.35)},
    "larger erased": {"operations": changed(5, scale=[0.02, 0.25])},
    "another level erased": {"operations": changed(5, fill_level=10)},
}


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("change", RENDERED.values(), ids=RENDERED)
def test_views_that_are_rendered_otherwise_are_refused(
    change: Callable[[torch.Tensor], torch.Tensor], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    canaries = canaries_of(name, CROPPED)
    monkeypatch.setattr(pipeline.views.plan, "render", lambda *views: change(render(*views)))
    with pytest.raises(StoreError, match="not what the teacher saw"):
        check_canaries(canaries, SPLITS[name], CROPPED, "store")


@pytest.mark.parametrize("change", SPECS.values(), ids=SPECS)
def test_views_of_other_settings_are_refused(change: dict[str, Any]) -> None:
    canaries = canaries_of("small", SPEC)
    other = ViewSpec.from_dict(SPEC.to_dict() | change, "test")
    with pytest.raises(StoreError, match="not what the teacher saw"):
        check_canaries(canaries, SPLITS["small"], other, "store")


@pytest.mark.parametrize("name", SPLITS)
def test_the_same_views_pass(name: str) -> None:
    assert check_canaries(canaries_of(name, SPEC), SPLITS[name], SPEC, "store") == COUNT
