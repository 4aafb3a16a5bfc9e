"""Corruptions against other people's filters and plain numpy; the pixels do not depend on the
batch.
"""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline.core.config import validate
from pipeline.core.errors import ConfigError
from pipeline.core.seeding import derive_seed, philox
from pipeline.data.sample_ids import sample_ids
from pipeline.evaluation.corruptions import CORRUPTIONS, base
from pipeline.evaluation.corruptions.base import Robustness
from pipeline.evaluation.corruptions.gaussian_noise import normal_draws

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 5, 9), (3, 17, 2)]
KINDS = list(CORRUPTIONS)


def draw(shape: tuple[int, int, int], count: int = 6, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Returns smooth images with some noise, and their ids."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    waves = 128 + 80 * np.sin(rng.uniform(0.1, 0.6, (count, shape[0], 1, 1)) * (rows + 2 * columns))
    images = np.clip(waves + rng.normal(0, 12, (count, *shape)), 0, 255).astype(np.uint8)
    return torch.from_numpy(images), sample_ids(images)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_pixels_do_not_depend_on_the_batch(
    kind: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, ids = draw(shape, 12)
    whole = CORRUPTIONS[kind]().apply(images, ids, 3, 1)
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(CORRUPTIONS[kind]().apply(images[order], ids[order.numpy()], 3, 1), whole[order])
    alone = [CORRUPTIONS[kind]().apply(images[row : row + 1], ids[row : row + 1], 3, 1) for row in range(12)]
    assert torch.equal(torch.cat(alone), whole)
    monkeypatch.setattr(base, "_VALUES_AT_ONCE", 5 * images[0].numel())
    assert torch.equal(CORRUPTIONS[kind]().apply(images, ids, 3, 1), whole)
    monkeypatch.setattr(base, "_VALUES_AT_ONCE", 1)
    assert torch.equal(CORRUPTIONS[kind]().apply(images, ids, 3, 1), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_each_severity_is_further_from_the_image_than_the_last(kind: str) -> None:
    images, ids = draw((3, 32, 32), 32)
    changes = [
        (CORRUPTIONS[kind]().apply(images, ids, s, 0).float() - images.float()).abs().mean().item() for s in range(1, 6)
    ]
    assert changes == sorted(set(changes))
    assert changes[0] > 0.1


@pytest.mark.parametrize(("severity", "std"), list(enumerate((0.4, 0.6, 0.7, 0.8, 1.0), start=1)))
@pytest.mark.parametrize("shape", SHAPES)
def test_blur_is_scipys(severity: int, std: float, shape: tuple[int, int, int]) -> None:
    images, ids = draw(shape)
    found = CORRUPTIONS["gaussian_blur"]().apply(images, ids, severity, 0).numpy().astype(float)
    expected = gaussian_filter(images.numpy().astype(float), (0, 0, std, std), mode="nearest", truncate=4.0)
    assert np.abs(found - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("severity", "left"), list(enumerate((0.75, 0.5, 0.4, 0.3, 0.15), start=1)))
def test_contrast_goes_towards_each_channels_mean(severity: int, left: float) -> None:
    images, ids = draw((3, 16, 16))
    found = CORRUPTIONS["contrast"]().apply(images, ids, severity, 0).numpy().astype(float)
    mean = images.numpy().mean(axis=(2, 3), keepdims=True)
    assert np.abs(found - ((images.numpy() - mean) * left + mean)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(("severity", "quality"), list(enumerate((80, 65, 58, 50, 40), start=1)))
@pytest.mark.parametrize("shape", SHAPES)
def test_jpeg_is_what_a_file_of_that_quality_holds(severity: int, quality: int, shape: tuple[int, int, int]) -> None:
    images, ids = draw(shape)
    found = CORRUPTIONS["jpeg"]().apply(images, ids, severity, 0).numpy()
    for image, made in zip(images.numpy(), found, strict=True):
        file = io.BytesIO()
        Image.fromarray(image[0] if shape[0] == 1 else image.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
        read = np.asarray(Image.open(file))
        assert np.array_equal(made, read[None] if shape[0] == 1 else read.transpose(2, 0, 1))


@pytest.mark.parametrize(("severity", "std"), list(enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1)))
def test_noise_has_its_strength_and_belongs_to_sample_and_seed(severity: int, std: float) -> None:
    images = torch.full((40, 1, 32, 32), 128, dtype=torch.uint8)
    ids = np.arange(1, 41, dtype=np.uint64) << np.uint64(40)
    noise = CORRUPTIONS["gaussian_noise"]().apply(images, ids, severity, 0).double() - 128
    assert noise.mean().item() == pytest.approx(0, abs=0.5)
    assert noise.std().item() == pytest.approx(255 * std, rel=0.02)
    other = CORRUPTIONS["gaussian_noise"]().apply(images, ids, severity, 1).double() - 128
    for first, second in ((noise[0], noise[1]), (noise[0], other[0])):
        assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].item()) < 0.12
    assert torch.equal(
        CORRUPTIONS["gaussian_noise"]().apply(images[:1], ids[:1], severity, 0).double() - 128, noise[:1]
    )


@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_normal_draws_are_box_and_mullers_of_philoxs_words(count: int) -> None:
    ids = np.array([7, 2**63 + 5, 2**64 - 1], dtype=np.uint64)
    found = normal_draws(derive_seed(3, "x"), ids, count).numpy()
    for row, number in enumerate(ids.tolist()):
        expected: list[float] = []
        for place in range(-(-count // 4)):
            counter = (number & 0xFFFFFFFF, number >> 32, place, 0)
            words = philox(derive_seed(3, "x"), tuple(np.array([c], dtype=np.int64) for c in counter))
            a, b, c, d = ((float(word[0]) + 0.5) / 2**32 for word in words)
            for first, second in ((a, b), (c, d)):
                expected += [np.sqrt(-2 * np.log(first)) * turn(2 * np.pi * second) for turn in (np.cos, np.sin)]
        np.testing.assert_allclose(found[row], expected[:count], rtol=1e-12)


def test_normal_draws_are_normal() -> None:
    values = normal_draws(0, np.arange(1, 101, dtype=np.uint64), 4000).numpy()
    assert values.mean() == pytest.approx(0, abs=0.01)
    assert values.var() == pytest.approx(1, abs=0.01)
    assert (values**4).mean() == pytest.approx(3, abs=0.08)
    # Neighbours are made of the same words, and are independent nevertheless.
    for gap in (1, 2, 3, 4):
        assert abs((values[:, :-gap] * values[:, gap:]).mean()) < 0.01


def test_an_even_image_stays_even_except_under_noise() -> None:
    images, ids = torch.full((2, 3, 9, 9), 77, dtype=torch.uint8), np.array([1, 2], dtype=np.uint64)
    for kind in ("gaussian_blur", "contrast"):
        assert torch.equal(CORRUPTIONS[kind]().apply(images, ids, 5, 0), images)
    assert not torch.equal(CORRUPTIONS["gaussian_noise"]().apply(images, ids, 1, 0), images)


@pytest.mark.parametrize(("key", "value"), [("severity", 0), ("severity", 6), ("num_images", 0), ("seed", -1)])
def test_a_severity_that_does_not_exist_is_refused_by_name(key: str, value: int) -> None:
    settings = {"severity": 3, "num_images": 10, "seed": 0} | {key: value}
    with pytest.raises(ConfigError, match=rf"robustness\.{key}: {value}"):
        validate(Robustness, settings, "robustness")
