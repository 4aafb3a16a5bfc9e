"""A view is a pure function of spec, sample and number: the pixels of the document's formulas."""

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split
from other_views import mix, partner_of, render_view
from PIL import Image
from scipy.special import betaincinv

from pipeline.core.errors import ConfigError
from pipeline.data.sample_ids import sample_ids
from pipeline.data.splits import SplitInMemory
from pipeline.views import spec as views_spec
from pipeline.views.operations import OPERATIONS
from pipeline.views.operations.mixing import partner_shares
from pipeline.views.spec import ViewSpec, own_shares, render
from pipeline.views.thumbnails import thumbnails

Row = dict[str, Any]
RATIO = [0.5, 2.0]
ROWS: dict[str, Row] = {
    "pad_crop": {"pad_px": 3},
    "resized_crop": {"scale": [0.1, 1.0], "ratio": RATIO},
    "flip_horizontal": {"probability": 0.5},
    "flip_vertical": {"probability": 0.3},
    "brightness": {"strength": 0.7},
    "contrast": {"strength": 1.0},
    "saturation": {"strength": 0.9},
    "erasing": {"probability": 0.7, "scale": [0.05, 0.6], "ratio": RATIO, "fill_level": 200},
    "mixup": {"alpha": 0.8, "probability": 0.8},
    "cutmix": {"alpha": 1.0, "probability": 0.8},
}
ROWS = {kind: {"kind": kind} | settings for kind, settings in ROWS.items()}
MIXING = ("mixup", "cutmix")
EACH = pytest.mark.parametrize("kind", ROWS)
EACH_MIXING = pytest.mark.parametrize("kind", MIXING)
ALL = {last: [row for kind, row in ROWS.items() if kind not in MIXING] + [ROWS[last]] for last in MIXING}
MANY = np.random.default_rng(0).integers(1, 2**64, 20_000, dtype=np.uint64)


def spec_of(*rows: Row, seed: int = 2**40 + 7, plain_first: bool = False) -> ViewSpec:
    return ViewSpec.from_dict({"seed": seed, "plain_first": plain_first, "operations": list(rows)}, "test")


def rendered(
    split: SplitInMemory, spec: ViewSpec, view: int, rows: list[int] | None = None, block: int = 1000
) -> torch.Tensor:
    """Returns views of some rows, the whole split being the store."""
    rows = list(range(len(split))) if rows is None else rows
    draws = spec.draw(split.sample_ids[rows], view)
    if not spec.mixes:
        return render(split.inputs[rows], draws, spec)
    others = spec.partners(split.sample_ids, view, block, np.array(rows))
    return render(split.inputs[rows], draws, spec, split.inputs[others], spec.draw(split.sample_ids[others], view))


def grey_split(count: int, level: int, shape: tuple[int, int, int] = (3, 40, 30)) -> SplitInMemory:
    """Returns images of one level, except for their own number in a corner."""
    images = np.full((count, *shape), level, dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(count) % 256
    images[:, 0, 0, 1] = np.arange(count) // 256
    return SplitInMemory(torch.from_numpy(images), torch.zeros(count, dtype=torch.int64), sample_ids(images))


# What the document says.


def expected_views(spec: ViewSpec, split: SplitInMemory, view: int, block: int) -> tuple[np.ndarray, list[float]]:
    """Returns views by the other implementation, and the own shares."""
    views, ids = spec.to_dict(), split.sample_ids.tolist()
    alone = {i: render_view(views, image, view, i) for i, image in zip(ids, split.inputs.numpy(), strict=True)}
    if not spec.mixes:
        return np.stack(list(alone.values())), [1.0] * len(ids)
    both = []
    for row, i in enumerate(ids):
        start = row // block * block
        partner = partner_of(views, ids[start : start + block], i, view)
        both.append(mix(views, alone[i], alone[partner], i, view))
    return np.stack([pixels for pixels, _ in both]), [share for _, share in both]


CASES = (
    {kind: [row] for kind, row in ROWS.items()} | {f"all, {last}": rows for last, rows in ALL.items()} | {"none": []}
)


@pytest.mark.parametrize("rows", CASES.values(), ids=CASES)
@pytest.mark.parametrize("plain_first", [False, True])
def test_a_batch_is_what_the_document_says_of_every_image_by_itself(rows: list[Row], plain_first: bool) -> None:
    spec, split = spec_of(*rows, plain_first=plain_first), make_split(7, shape=(3, 9, 7))
    for view in (0, 3, 2**32 - 1):
        views, shares = expected_views(spec, split, view, block=4)
        np.testing.assert_array_equal(rendered(split, spec, view, block=4).numpy(), views)
        found = own_shares(spec.draw(split.sample_ids, view), (3, 9, 7), spec)
        np.testing.assert_array_equal(found.numpy(), np.array(shares, np.float32))


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 5, 11), (1, 1, 6)])
@pytest.mark.parametrize("kind", [kind for kind in ROWS if kind != "saturation"])
def test_images_of_any_size_and_channels_have_views(kind: str, shape: tuple[int, int, int]) -> None:
    spec, split = spec_of(ROWS[kind]), make_split(6, shape=shape)
    np.testing.assert_array_equal(rendered(split, spec, 2).numpy(), expected_views(spec, split, 2, 1000)[0])


GOLDEN = {
    "pad_crop": "c7a01410c850ff39",
    "resized_crop": "7b74295c241e0890",
    "flip_horizontal": "093f20a0ebb39368",
    "flip_vertical": "656542d74af7d006",
    "brightness": "c16617497b88a466",
    "contrast": "6a39472e8a427f10",
    "saturation": "94e661fe7efaec8e",
    "erasing": "5ce44dcfa2010903",
    "mixup": "00ed04e4e0287ea3",
    "cutmix": "1cc9a73852ad7cc2",
}


@EACH
def test_views_are_the_same_bits_in_every_version(kind: str) -> None:
    images = (np.arange(6 * 3 * 9 * 7) * 37 % 251).astype(np.uint8).reshape(6, 3, 9, 7)
    ids = np.array([1, 2, 2**32 + 1, 2**63, 2**64 - 1, 99], dtype=np.uint64)
    split = SplitInMemory(torch.from_numpy(images), torch.zeros(6, dtype=torch.int64), ids)
    pixels = torch.stack([rendered(split, spec_of(ROWS[kind]), view) for view in range(4)])
    assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:16] == GOLDEN[kind]


def test_random_words_become_the_same_numbers_in_every_version() -> None:
    ids = np.array([1, 2**64 - 1], dtype=np.uint64)
    rows = [ROWS[kind] for kind in ("pad_crop", "resized_crop", "brightness", "erasing", "cutmix")]
    assert spec_of(*rows).draw(ids, 5).tolist() == [
        [
            3,
            2,
            39964,
            34734,
            2892020286,
            3793866815,
            71413,
            1,
            40226,
            40720,
            2151095519,
            1421330819,
            17186,
            3065153628,
            3812277982,
        ],
        [
            3,
            5,
            46429,
            54128,
            3938736778,
            2422714552,
            36254,
            0,
            23728,
            33436,
            2212999260,
            2538595284,
            0,
            2711465455,
            1638819703,
        ],
    ]


# Whatever the batch.


@pytest.mark.parametrize("last", MIXING)
@pytest.mark.parametrize("rows", [[0], [15, 3, 3, 8], list(range(15, -1, -1))], ids=["one", "some", "all"])
def test_the_view_of_a_sample_does_not_depend_on_the_batch_around_it(last: str, rows: list[int]) -> None:
    split, spec = make_split(16, shape=(3, 13, 10)), spec_of(*ALL[last])
    assert torch.equal(rendered(split, spec, 4, rows), rendered(split, spec, 4)[rows])


@pytest.mark.parametrize("last", MIXING)
def test_large_images_are_rendered_a_few_at_a_time_to_the_same_views(
    last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, spec = make_split(11, shape=(3, 40, 32)), spec_of(*ALL[last])
    together, seen, real = rendered(split, spec, 1), list[int](), views_spec._render
    monkeypatch.setattr(views_spec, "_CACHED_BYTES", 2 * 3 * 40 * 32)
    monkeypatch.setattr(views_spec, "_render", lambda images, *args: seen.append(len(images)) or real(images, *args))
    assert torch.equal(rendered(split, spec, 1), together)
    assert seen == [4, 4, 3]


def test_the_number_of_threads_does_not_count() -> None:
    split, spec = make_split(64, shape=(3, 40, 32)), spec_of(*ALL["mixup"])
    alone = rendered(split, spec, 1)
    torch.set_num_threads(3)
    try:
        assert torch.equal(rendered(split, spec, 1), alone)
    finally:
        torch.set_num_threads(1)


@EACH
def test_rendering_leaves_the_images_alone(kind: str) -> None:
    split = make_split(8, shape=(3, 9, 7))
    before = split.inputs.clone()
    rendered(split, spec_of(ROWS[kind]), 1)
    assert torch.equal(split.inputs, before)


@EACH
def test_views_differ_by_number_seed_sample_and_place_of_the_operation(kind: str) -> None:
    flip = {"kind": "flip_vertical", "probability": 0.0}  # changes nothing but the places
    specs = [spec_of(ROWS[kind]), spec_of(ROWS[kind], seed=6), spec_of(flip, ROWS[kind])]
    draws = [
        spec.draw(MANY[:300], view)[:, -specs[0].draw(MANY[:1], 0).shape[1] :] for spec in specs for view in (0, 1)
    ]
    for first in range(len(draws)):
        assert len(torch.unique(draws[first], dim=0)) > 1
        for second in range(first):
            assert (draws[first] != draws[second]).any(dim=1).float().mean() > 0.3


# Plain views.


@pytest.mark.parametrize("last", MIXING)
def test_view_0_is_the_image_itself_where_the_first_is_plain_and_no_other_one_is(last: str) -> None:
    split, spec = make_split(20, shape=(3, 12, 9)), spec_of(*ALL[last], plain_first=True)
    assert torch.equal(rendered(split, spec, 0), split.inputs)
    assert torch.equal(own_shares(spec.draw(split.sample_ids, 0), (3, 12, 9), spec), torch.ones(20))
    assert (rendered(split, spec, 1) != split.inputs).flatten(1).any(1).all()
    assert torch.equal(rendered(split, spec, 1), rendered(split, spec_of(*ALL[last]), 1))


WITHOUT_EFFECT: dict[str, Row] = {
    "pad_crop": {"pad_px": 0},
    "resized_crop": {"scale": [1.0, 1.0], "ratio": [1.0, 1.0]},
    **{kind: {"strength": 0.0} for kind in ("brightness", "contrast", "saturation")},
    **{kind: {"probability": 0.0} for kind in ("flip_horizontal", "flip_vertical", "erasing", "mixup", "cutmix")},
}


@EACH
def test_settings_without_effect_leave_the_image(kind: str) -> None:
    split = make_split(10, shape=(3, 12, 12))
    assert torch.equal(rendered(split, spec_of(ROWS[kind] | WITHOUT_EFFECT[kind]), 5), split.inputs)


# One operation after the other.


def test_every_shift_and_both_directions_occur_about_equally_often(spec: ViewSpec) -> None:
    draws = spec.draw(MANY[:10_000], view=3)
    combined = draws[:, 0] * 10 + draws[:, 1] * 2 + draws[:, 2]
    counts = np.bincount(combined.numpy(), minlength=50)
    assert len(counts) == 50
    assert counts.min() > 130  # of 200 expected, deviation 14
    assert counts.max() < 270


def test_a_sample_sees_all_shifts_over_its_views(spec: ViewSpec) -> None:
    one = np.array([12345], dtype=np.uint64)
    seen = {tuple(spec.draw(one, view)[0].tolist()) for view in range(1000)}
    assert len(seen) == 50


@pytest.mark.parametrize("kind", ["flip_horizontal", "flip_vertical"])
@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_the_probability_is_how_often_it_happens(kind: str, probability: float) -> None:
    drawn = spec_of({"kind": kind, "probability": probability}).draw(MANY, 0).double().mean()
    assert abs(drawn - probability) < 4 * (probability * (1 - probability) / len(MANY)) ** 0.5 + 1e-12


@pytest.mark.parametrize("width", [5, 6, 12, 16])
def test_images_of_any_width_are_mirrored_pixel_by_pixel(width: int) -> None:
    split, spec = make_split(20, shape=(3, 4, width)), spec_of(ROWS["flip_horizontal"])
    happens = spec.draw(split.sample_ids, 3)[:, :, None, None] == 1
    assert 0 < happens.sum() < 20
    assert torch.equal(rendered(split, spec, 3), torch.where(happens, split.inputs.flip(3), split.inputs))


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_factors_are_uniform_around_1(kind: str) -> None:
    factors = spec_of({"kind": kind, "strength": 0.4}).draw(MANY, 0)[:, 0].double() / 65536
    assert 0.6 <= factors.min() < 0.601
    assert 1.399 < factors.max() <= 1.4
    shares = torch.histc(factors, 4, 0.6, 1.4) / len(MANY)
    torch.testing.assert_close(shares, torch.full((4,), 0.25, dtype=torch.float64), rtol=0, atol=0.015)


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_colours_are_those_of_float64_to_the_nearest_level(kind: str) -> None:
    split, spec = make_split(20, shape=(3, 9, 8)), spec_of(ROWS[kind])
    exact = split.inputs.double()
    grey = torch.einsum("nchw,c->nhw", exact, torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)).round()[:, None]
    other = {"brightness": 0 * grey, "contrast": grey.mean(dim=(1, 2, 3), keepdim=True).round(), "saturation": grey}[
        kind
    ]
    factors = spec.draw(split.sample_ids, 3).double()[:, :, None, None] / 65536
    wanted = (factors * exact + (1 - factors) * other).clamp(0, 255)
    difference = (rendered(split, spec, 3).double() - wanted).abs()
    assert difference.max() <= 1  # where a grey lies halfway between two levels
    assert (difference <= 0.5001).double().mean() > 0.99


def crop_boxes(spec: ViewSpec, split: SplitInMemory, view: int) -> np.ndarray:
    """Returns left, top, right, bottom in pixels, from what is drawn."""
    height, width = split.inputs.shape[2:]
    y, x, down, along = (column.double().numpy() for column in spec.draw(split.sample_ids, view).T)
    root = (height * width) ** 0.5 / 65536
    tall, wide = (y * root).clip(max=height), (x * root).clip(max=width)
    left, top = along / 2**32 * (width - wide), down / 2**32 * (height - tall)
    return np.stack([left, top, left + wide, top + tall], axis=1)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 50, 37)])
def test_a_resized_crop_is_what_pillow_makes_of_that_box(shape: tuple[int, int, int]) -> None:
    split, spec = make_split(20, shape=shape), spec_of({"kind": "resized_crop", "scale": [0.1, 1.0], "ratio": RATIO})
    found = rendered(split, spec, 1).numpy().astype(int)
    for image, view, box in zip(split.inputs.numpy(), found, crop_boxes(spec, split, 1), strict=True):
        for channel, shown in zip(image, view, strict=True):
            size, smooth = channel.shape[::-1], Image.Resampling.BILINEAR
            wanted = np.array(Image.fromarray(channel).resize(size, smooth, box=tuple(box)), dtype=int)
            assert np.abs(shown - wanted).max() <= 2  # its box begins at 1/256 pixel: 1/512 x 255 levels, twice


def test_crops_have_the_areas_and_ratios_that_are_asked_for() -> None:
    spec = spec_of({"kind": "resized_crop", "scale": [0.2, 0.5], "ratio": [0.5, 2.0]})
    y, x = spec.draw(MANY, 0)[:, :2].double().T / 65536
    area, ratio = x * y, (x / y).log() / np.log(2)
    for values, low, high in ((area, 0.2, 0.5), (ratio, -1.0, 1.0)):
        assert low - 1e-4 <= values.min() < values.max() <= high + 1e-4
        assert abs(values.mean() - (low + high) / 2) < 0.015 * (high - low)
        assert abs(values.var() - (high - low) ** 2 / 12) < 0.03 * (high - low) ** 2 / 12


@pytest.mark.parametrize("fill_level", [0, 77])
def test_an_erased_rectangle_has_the_area_that_is_asked_for_and_lies_anywhere(fill_level: int) -> None:
    row = {"kind": "erasing", "probability": 0.5, "scale": [0.1, 0.2], "ratio": RATIO, "fill_level": fill_level}
    split = grey_split(1500, 255)
    covered = (rendered(split, spec_of(row), 0) == fill_level)[:, 1].double()
    area = covered.mean(dim=(1, 2))
    assert abs((area > 0).double().mean() - 0.5) < 0.05
    assert 0.07 < area[area > 0].min() < area.max() < 0.23
    assert abs(area[area > 0].mean() - 0.15) < 0.005
    somewhere = covered.mean(dim=0) > 0
    for edge in (somewhere[0], somewhere[-1], somewhere[:, 0], somewhere[:, -1]):
        assert edge.double().mean() > 0.8


# Two images in one.


@EACH_MIXING
def test_the_own_share_is_the_exact_share_of_the_pixels(kind: str) -> None:
    black, white = grey_split(400, 0), grey_split(400, 255)
    spec = spec_of({"kind": kind, "alpha": 1.0, "probability": 0.9})
    draws = spec.draw(black.sample_ids, 1)
    shares = own_shares(draws, (3, 40, 30), spec)
    found = render(black.inputs, draws, spec, white.inputs, draws)[:, 1].double().mean(dim=(1, 2)) / 255
    torch.testing.assert_close(1 - found, shares.double(), rtol=0, atol=1e-6 if kind == "cutmix" else 0.5 / 255)
    assert 0.5 <= shares.min() < 0.55
    assert abs((shares == 1).double().mean() - 0.1) < 0.05


@pytest.mark.parametrize("alpha", [0.2, 0.7, 1.0, 1.5, 5.0, 100.0])
def test_shares_are_those_of_a_beta_distribution(alpha: float) -> None:
    uniform = (np.arange(5000) + 0.5) / 5000
    found, wanted = partner_shares(uniform, alpha), betaincinv(alpha, alpha, uniform / 2)
    assert np.abs(found - wanted).max() < 1e-3
    shares = spec_of({"kind": "mixup", "alpha": alpha, "probability": 1.0}).draw(MANY, 0)[:, 0].double() / 65536
    variance = 1 / (4 * (2 * alpha + 1))  # of Beta(alpha, alpha)
    assert abs(((shares - 0.5) ** 2).mean() - variance) < 0.03 * variance
    assert abs(shares.mean() - (1 - wanted.mean())) < 0.005


@pytest.mark.parametrize(("count", "block"), [(50, 16), (50, 50), (50, 1000), (5, 2), (2, 2)])
def test_partners_are_a_ring_within_each_block(count: int, block: int) -> None:
    spec, ids = spec_of(ROWS["mixup"]), MANY[:count]
    for view in range(4):
        partners = spec.partners(ids, view, block)
        assert sorted(partners) == list(range(count))
        assert (partners // block == np.arange(count) // block).all()
        for start in range(0, count, block):
            size = min(block, count - start)
            seen = [start]
            while (following := int(partners[seen[-1]])) != start:
                seen.append(following)
            assert len(seen) == size


def test_who_is_whose_partner_depends_on_the_images_of_a_block_and_not_on_their_order() -> None:
    spec, ids = spec_of(ROWS["cutmix"]), MANY[:40]
    order = np.random.default_rng(1).permutation(40)
    before, after = ids[spec.partners(ids, 3, 40)], ids[order][spec.partners(ids[order], 3, 40)]
    np.testing.assert_array_equal(after, before[order])
    assert (ids[spec.partners(ids, 4, 40)] != before).mean() > 0.8
    np.testing.assert_array_equal(ids[spec.partners(ids, 3, 40, np.array([7, 7, 2]))], before[[7, 7, 2]])


def test_equal_images_have_one_partner_which_is_another_image() -> None:
    spec, ids = spec_of(ROWS["mixup"]), MANY[[0, 1, 2, 1, 3, 1]]
    for view in range(20):
        partners = spec.partners(ids, view, 6)
        assert len({*partners[[1, 3, 5]]}) == 1
        assert (ids[partners] != ids).all()
    np.testing.assert_array_equal(spec.partners(ids[[1, 1]], 0, 2), [0, 0])  # alone, it is its own


# Settings.


def test_a_spec_comes_back_from_its_dict_and_its_fingerprint_tells_specs_apart() -> None:
    specs = [
        spec_of(*rows, seed=seed, plain_first=plain)
        for rows in CASES.values()
        for seed in (0, 5)
        for plain in (False, True)
    ]
    specs.append(spec_of(*reversed(CASES["all, mixup"][:-1])))
    assert [ViewSpec.from_dict(spec.to_dict(), "store") for spec in specs] == specs
    assert len({spec.fingerprint for spec in specs}) == len(specs)
    assert [kind for kind, one in OPERATIONS.items() if one.input_kind == "image"] == list(ROWS)
    for spec in specs:
        assert [next(iter(row)) for row in spec.to_dict()["operations"]] == ["kind"] * len(spec.operations)


GOOD = {"seed": 1, "plain_first": False, "operations": [ROWS["pad_crop"], ROWS["erasing"]]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": -1}, r"\.seed: -1"),
        ({"plain_first": 0}, r"\.plain_first: 0"),
        ({"flip": True}, r"\.flip: unknown key"),
        ({"operations": {}}, r"\.operations: \{\}"),
        ({"operations": [ROWS["mixup"], ROWS["cutmix"]]}, r"\.operations: .*expected at most one of mixup and cutmix"),
        ({"operations": [ROWS["mixup"], ROWS["pad_crop"]]}, r"\.operations: .*nothing after it"),
    ],
)
def test_a_spec_that_is_none_is_refused_by_the_name_of_the_key(changes: Row, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^params.yaml: views{told}") as caught:
        ViewSpec.from_dict(GOOD | changes, "params.yaml: views")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("pad_crop", r"kind: 'pad_crop'"),
        ({"pad_px": 1}, r"kind: None .*one of: pad_crop, resized_crop"),
        ({"kind": "pad_crp", "pad_px": 1}, r"kind: 'pad_crp' .*did you mean 'pad_crop'\?"),
        ({"kind": ["pad_crop"]}, r"kind: \['pad_crop'\]"),
        ({"kind": "pad_crop", "pad": 1}, r"pad: 1 .*one of: kind, pad_px \(did you mean 'pad_px'\?\)"),
        ({"kind": "pad_crop"}, r"pad_px: this key is missing"),
        (ROWS["pad_crop"] | {"pad_px": -1}, r"pad_px: -1"),
        (ROWS["pad_crop"] | {"pad_px": 1.5}, r"pad_px: 1\.5"),
        (ROWS["flip_vertical"] | {"probability": 1.1}, r"probability: 1\.1"),
        (ROWS["resized_crop"] | {"scale": [0.5, 0.1]}, r"scale: \[0\.5, 0\.1\] .*\[low, high\]"),
        (ROWS["resized_crop"] | {"scale": [0.5, 1.1]}, r"scale\.1: 1\.1"),
        (ROWS["resized_crop"] | {"scale": [0.0, 1.0]}, r"scale\.0: 0"),
        (ROWS["resized_crop"] | {"ratio": [1.0]}, r"ratio\.1: this key is missing"),
        (ROWS["resized_crop"] | {"ratio": [2.0, 1.0]}, r"ratio: \[2\.0, 1\.0\]"),
        (ROWS["contrast"] | {"strength": -0.1}, r"strength: -0\.1"),
        (ROWS["erasing"] | {"fill_level": 256}, r"fill_level: 256"),
        (ROWS["mixup"] | {"alpha": 0.0}, r"alpha: 0"),
    ],
)
def test_a_wrong_operation_is_refused_in_one_line_that_names_the_place(row: object, told: str) -> None:
    with pytest.raises(ConfigError, match=rf"^params.yaml: views\.operations\.1\.{told}") as caught:
        ViewSpec.from_dict(GOOD | {"operations": [ROWS["pad_crop"], row]}, "params.yaml: views")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_saturation_of_images_that_have_no_colours_is_refused(channels: int) -> None:
    spec = spec_of(ROWS["pad_crop"], ROWS["saturation"])
    spec.check((3, 8, 8), "views")
    with pytest.raises(ConfigError, match=rf"^views\.operations\.1: saturation of images with {channels} channel.*RGB"):
        spec.check((channels, 8, 8), "views")


# Thumbnails.


def test_a_thumbnail_of_a_small_image_is_the_image(split: SplitInMemory) -> None:
    assert torch.equal(thumbnails(split.inputs), split.inputs)


def test_a_thumbnail_of_a_large_image_is_its_local_mean() -> None:
    images = make_split(3, shape=(3, 64, 96)).inputs
    exact = images.double().reshape(3, 3, 32, 2, 32, 3).mean(dim=(3, 5))
    found = thumbnails(images)
    assert found.shape == (3, 3, 32, 32)
    assert (found.double() - exact).abs().max() <= 0.5
    assert thumbnails(images[:, :, :20]).shape == (3, 3, 20, 32)
