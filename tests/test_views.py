"""A view is a pure function of spec, sample and number, equal to cropping and flipping one image at a time."""

import hashlib

import numpy as np
import pytest
import torch
from conftest import make_split
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.datasets import Split, sample_ids
from pipeline.errors import ConfigError
from pipeline.views import ViewSpec, render, thumbnails

SPECS = st.builds(ViewSpec, seed=st.integers(0, 2**64 - 1), pad_px=st.integers(0, 4), flip_horizontal=st.booleans())


def rendered(split: Split, spec: ViewSpec, view: int, rows: list[int] | None = None) -> torch.Tensor:
    rows = list(range(len(split))) if rows is None else rows
    return render(split.images[rows], spec.draw(split.sample_ids[rows], view), spec)


def reference(image: np.ndarray, down: int, right: int, flip: int, pad: int) -> np.ndarray:
    """Pixel by pixel: where each one of the view comes from, or black."""
    channels, height, width = image.shape
    view = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            from_row, from_column = row + down - pad, column + right - pad
            if 0 <= from_row < height and 0 <= from_column < width:
                view[:, row, width - 1 - column if flip else column] = image[:, from_row, from_column]
    assert channels == len(view)
    return view


@settings(deadline=None, max_examples=25, database=None)
@given(
    SPECS, st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 8), st.integers(1, 8)), st.integers(0, 1000)
)
def test_a_rendered_batch_is_every_image_shifted_and_flipped_by_itself(
    spec: ViewSpec, shape: tuple[int, int, int, int], view: int
) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    draws = spec.draw(sample_ids(images), view)
    found = render(torch.from_numpy(images), draws, spec).numpy()
    for image, (down, right, flip), shown in zip(images, draws.tolist(), found, strict=True):
        np.testing.assert_array_equal(shown, reference(image, down, right, flip, spec.pad_px))


@settings(deadline=None, max_examples=25, database=None)
@given(SPECS, st.lists(st.integers(0, 15), min_size=1, max_size=20), st.integers(0, 50))
def test_the_view_of_a_sample_does_not_depend_on_the_batch_around_it(
    spec: ViewSpec, rows: list[int], view: int
) -> None:
    split = make_split(16, shape=(2, 6, 5))
    assert torch.equal(rendered(split, spec, view, rows), rendered(split, spec, view)[rows])


def test_every_shift_and_both_directions_occur_about_equally_often(spec: ViewSpec) -> None:
    ids = np.random.default_rng(0).integers(1, 2**64, 10_000, dtype=np.uint64)
    draws = spec.draw(ids, view=3)
    combined = draws[:, 0] * 10 + draws[:, 1] * 2 + draws[:, 2]
    counts = np.bincount(combined.numpy(), minlength=50)
    assert len(counts) == 50
    assert counts.min() > 130  # of 200 expected, deviation 14
    assert counts.max() < 270


def test_a_sample_sees_all_shifts_over_its_views(spec: ViewSpec) -> None:
    one = np.array([12345], dtype=np.uint64)
    seen = {tuple(spec.draw(one, view)[0].tolist()) for view in range(1000)}
    assert len(seen) == 50


def test_without_padding_and_flips_a_view_is_the_image_itself(split: Split) -> None:
    spec = ViewSpec(seed=5, pad_px=0, flip_horizontal=False)
    assert torch.equal(rendered(split, spec, 3), split.images)


def test_with_flips_alone_every_view_is_the_image_or_its_mirror_image(split: Split) -> None:
    found = rendered(split, ViewSpec(seed=5, pad_px=0, flip_horizontal=True), 0)
    same, mirrored = ((found == images).flatten(1).all(1) for images in (split.images, split.images.flip(3)))
    assert (same ^ mirrored).all()
    assert 15 < int(mirrored.sum()) < 49


def test_no_view_is_flipped_where_flips_are_off(split: Split) -> None:
    assert not ViewSpec(seed=5, pad_px=3, flip_horizontal=False).draw(split.sample_ids, 0)[:, 2].any()


def test_views_differ_by_number_seed_and_sample(split: Split, spec: ViewSpec) -> None:
    views = [rendered(split, spec, view) for view in range(6)]
    views.append(rendered(split, ViewSpec(seed=6, pad_px=2, flip_horizontal=True), 0))
    for first in range(len(views)):
        for second in range(first):
            assert (views[first] != views[second]).flatten(1).any(1).float().mean() > 0.8
    assert len(torch.unique(spec.draw(split.sample_ids, 0), dim=0)) > 20


def test_rendering_leaves_the_images_alone(split: Split, spec: ViewSpec) -> None:
    before = split.images.clone()
    rendered(split, spec, 1)
    assert torch.equal(split.images, before)


def test_views_are_the_same_bits_in_every_version() -> None:
    images = (np.arange(6 * 3 * 9 * 7) * 37 % 251).astype(np.uint8).reshape(6, 3, 9, 7)
    ids = np.array([1, 2, 2**32 + 1, 2**63, 2**64 - 1, 99], dtype=np.uint64)
    spec = ViewSpec(seed=2**40 + 7, pad_px=3, flip_horizontal=True)
    draws = torch.stack([spec.draw(ids, view) for view in range(4)])
    pixels = torch.stack([render(torch.from_numpy(images), draws[view], spec) for view in range(4)])
    assert draws[0].tolist() == [[2, 3, 0], [2, 6, 1], [0, 5, 0], [0, 2, 1], [6, 1, 0], [5, 1, 0]]
    assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:16] == "3cab8ddbb5f149da"


def test_a_spec_comes_back_from_its_dict_and_its_fingerprint_tells_specs_apart() -> None:
    specs = [
        ViewSpec(seed=seed, pad_px=pad, flip_horizontal=flip)
        for seed in (0, 2**64 - 1)
        for pad in (0, 2)
        for flip in (False, True)
    ]
    assert [ViewSpec.from_dict(spec.to_dict(), "store") for spec in specs] == specs
    assert len({spec.fingerprint for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pad_px": -1}, r"store\.pad_px: -1"),
        ({"seed": -1}, r"store\.seed: -1"),
        ({"flip_horizontal": 1}, r"store\.flip_horizontal: 1"),
        ({"flip": True}, r"store\.flip: unknown key"),
    ],
)
def test_a_spec_that_is_none_is_refused_by_the_name_of_the_key(changes: dict[str, object], told: str) -> None:
    good = {"seed": 1, "pad_px": 2, "flip_horizontal": True}
    with pytest.raises(ConfigError, match=told):
        ViewSpec.from_dict(good | changes, "store")


def test_a_thumbnail_of_a_small_image_is_the_image(split: Split) -> None:
    assert torch.equal(thumbnails(split.images), split.images)


def test_a_thumbnail_of_a_large_image_is_its_local_mean() -> None:
    images = make_split(3, shape=(3, 64, 96)).images
    exact = images.double().reshape(3, 3, 32, 2, 32, 3).mean(dim=(3, 5))
    found = thumbnails(images)
    assert found.shape == (3, 3, 32, 32)
    assert (found.double() - exact).abs().max() <= 0.5
    assert thumbnails(images[:, :, :20]).shape == (3, 3, 20, 32)
