"""Maps point to the place where a network looks, for any network; the agreement of two maps."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from pipeline.explanation.attribution import Patch, attribute, map_agreement

CPU = torch.device("cpu")
TOP, LEFT, SIDE = 4, 10, 4  # of the patch that the network looks at
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 2, 16, 20), dtype=np.uint8))


class LooksAtAPatch(nn.Module):
    """A network whose class 0 is the brightness of one patch, and class 1 its darkness; the rest
    does not count.
    """

    def __init__(self, *, by_numpy: bool = False) -> None:
        super().__init__()
        self.by_numpy = by_numpy
        self.batches: list[int] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(pixels))
        assert pixels.dtype == torch.uint8
        mean = pixels[:, :, TOP : TOP + SIDE, LEFT : LEFT + SIDE].float().mean(dim=(1, 2, 3)) / 64
        if self.by_numpy:
            mean = torch.from_numpy(mean.numpy().copy())
        return torch.stack([mean, -mean], dim=1)


def maps_of(
    model: nn.Module, images: torch.Tensor = IMAGES, classes: tuple[int, ...] = (0, 0, 1), batch_size: int = 7
) -> np.ndarray:
    """Returns maps by a black patch of 4 x 4 pixels in steps of 2."""
    return attribute(
        lambda pixels: model(pixels).double().log_softmax(dim=1),
        images,
        torch.tensor(classes, dtype=torch.int64),
        CPU,
        Patch((4, 4), (2, 2), torch.zeros(2, dtype=torch.uint8)),
        batch_size,
    )


@pytest.mark.parametrize("by_numpy", [False, True])
def test_a_map_points_to_the_patch_that_a_network_looks_at(by_numpy: bool) -> None:
    maps = maps_of(LooksAtAPatch(by_numpy=by_numpy))
    assert maps.shape == (3, 16, 20)
    for each, sign in zip(maps, (1, 1, -1), strict=True):  # the third is asked for darkness, which the black patch adds
        inside = sign * each[TOP : TOP + SIDE, LEFT : LEFT + SIDE]
        assert inside.min() > 0
        outside = each.copy()
        outside[TOP - 3 : TOP + SIDE + 3, LEFT - 3 : LEFT + SIDE + 3] = 0
        assert not outside.any()
        assert inside.max() == (sign * each).max()


def test_a_map_is_the_mean_loss_over_the_patches_that_cover_a_pixel() -> None:
    model = LooksAtAPatch()
    total, count = np.zeros((16, 20)), np.zeros((16, 20))

    def log_prob(pixels: np.ndarray) -> float:
        mean = pixels[:, TOP : TOP + SIDE, LEFT : LEFT + SIDE].astype(np.float64).mean() / 64
        return float(mean - np.logaddexp(mean, -mean))

    image = IMAGES[0].numpy()
    for top in range(0, 13, 2):
        for left in range(0, 17, 2):
            covered = image.copy()
            covered[:, top : top + 4, left : left + 4] = 0
            total[top : top + 4, left : left + 4] += log_prob(image) - log_prob(covered)
            count[top : top + 4, left : left + 4] += 1
    np.testing.assert_allclose(maps_of(model)[0], total / count, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 5, 500])
def test_batches_are_bounded_and_make_no_difference(batch_size: int) -> None:
    model = LooksAtAPatch()
    maps = maps_of(model, batch_size=batch_size)
    assert max(model.batches) <= batch_size
    np.testing.assert_allclose(maps, maps_of(LooksAtAPatch(), batch_size=3), atol=1e-6)


def test_no_images_have_no_maps() -> None:
    assert maps_of(LooksAtAPatch(), IMAGES[:0], ()).shape == (0, 16, 20)


def test_agreement_is_spearmans() -> None:
    rng = np.random.default_rng(1)
    maps, others = rng.integers(0, 9, (2, 4, 6, 5)).astype(float)  # with ties
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(maps, others, strict=True)]
    np.testing.assert_allclose(map_agreement(maps, others), expected, rtol=1e-9)
    np.testing.assert_allclose(map_agreement(maps, np.exp(maps)), 1)
    np.testing.assert_allclose(map_agreement(maps, -maps), -1)


def test_a_map_that_is_the_same_everywhere_agrees_with_nothing() -> None:
    assert map_agreement(np.ones((2, 3, 3)), np.random.default_rng(0).random((2, 3, 3))).tolist() == [0, 0]
