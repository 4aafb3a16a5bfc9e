"""Views of two images: a share of the image's own, the rest of a partner's from the same block of a store."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8, UInt64
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.views.operations.base import UNIT, Operation, Probability, blend, happens
from pipeline.views.operations.rectangles import inside, place

_TABLE_STEPS = 4096


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mixing(Operation):
    """With `probability`, a view is mixed of two; the own share is the larger of l and 1 - l, with l ~ Beta(alpha, alpha).

    So the image that a view belongs to is the one that it shows most of.
    """

    kind: str
    alpha: Annotated[float, Field(gt=0, le=100)]
    probability: Probability

    @abstractmethod
    def mix(
        self,
        images: UInt8[torch.Tensor, "batch channels height width"],
        partners: UInt8[torch.Tensor, "batch channels height width"],
        draws: Int64[torch.Tensor, "batch columns"],
    ) -> UInt8[torch.Tensor, "batch channels height width"]:
        """Both images in one, after all other operations on either."""

    @abstractmethod
    def own_shares(
        self, draws: Int64[torch.Tensor, "samples columns"], image_shape: Sequence[int]
    ) -> Float32[torch.Tensor, " samples"]:
        """The first image's share of each view, 0.5 to 1."""

    def _draw_shares(self, words: Int64[torch.Tensor, "words samples"]) -> Int64[torch.Tensor, " samples"]:
        """The partner's share, up to a half, in units of 1/65536."""
        shares = partner_shares((words[1].numpy() + 0.5) / 2**32, self.alpha)
        drawn = torch.from_numpy(np.rint(shares * UNIT).astype(np.int64))
        return drawn * happens(words[0], self.probability)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mixup(Mixing):
    """The weighted mean of two images.

    References:
        Hongyi Zhang, Moustapha Cisse, Yann N. Dauphin, David Lopez-Paz, "mixup: Beyond Empirical Risk Minimization",
        2017, arXiv 1710.09412, section 2.
    """

    kind: Literal["mixup"] = "mixup"

    num_words = 2

    @property
    def still(self) -> tuple[int, ...]:
        return (UNIT,)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """The own share in units of 1/65536."""
        return (UNIT - self._draw_shares(words))[:, None]

    def mix(self, images: torch.Tensor, partners: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return blend(images, partners, draws[:, 0])

    def own_shares(self, draws: torch.Tensor, image_shape: Sequence[int]) -> torch.Tensor:
        return draws[:, 0].float() / UNIT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CutMix(Mixing):
    """A rectangle of the partner over the image: of the image's aspect, wholly inside, at the same place in both, whole
    pixels, its area the partner's share or less by rounding. The own share is that of the pixels, not the one drawn.

    References:
        Sangdoo Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
        2019, arXiv 1905.04899, section 3.1.
    """

    kind: Literal["cutmix"] = "cutmix"

    num_words = 4

    @property
    def still(self) -> tuple[int, ...]:
        return (0, 0, 0)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """The rectangle's share of either side in units of 1/65536, rounded down, and the words that place it."""
        # Float64 takes the root of a whole number below 2^52 exactly, as far as rounding down is concerned.
        sides = (self._draw_shares(words) * UNIT).double().sqrt().long()
        return torch.stack([sides, words[2], words[3]], dim=1)

    def mix(self, images: torch.Tensor, partners: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        size = (images.shape[2], images.shape[3])
        height, width = _sides(draws, size)
        top, left = place(draws[:, 1], height, size[0]), place(draws[:, 2], width, size[1])
        return torch.where(inside(top, left, height, width, size), partners, images)

    def own_shares(self, draws: torch.Tensor, image_shape: Sequence[int]) -> torch.Tensor:
        height, width = _sides(draws, (image_shape[1], image_shape[2]))
        area = image_shape[1] * image_shape[2]
        return ((area - height * width).double() / area).float()


def _sides(draws: torch.Tensor, image_size: tuple[int, int]) -> list[torch.Tensor]:
    """Of a CutMix rectangle, in pixels."""
    return [(draws[:, 0] * size) >> 16 for size in image_size]


def partner_shares(uniform: Float64[np.ndarray, " samples"], alpha: float) -> Float64[np.ndarray, " samples"]:
    """min(l, 1 - l) of l ~ Beta(alpha, alpha), from uniform numbers in (0, 1).

    With x = 0.5 u^(1/b) and b = min(alpha, 1), the density of u, x^(alpha - b) (1 - x)^(alpha - 1), is bounded, so
    that a table of its integral will do. scipy would bring the inverse, and 100 MB.
    """
    steps = np.arange(_TABLE_STEPS + 1) / _TABLE_STEPS
    return _half_power(np.interp(uniform, _cumulative(alpha), steps), alpha)


def _half_power(u: Float64[np.ndarray, " some"], alpha: float) -> Float64[np.ndarray, " some"]:
    halves: np.ndarray = 0.5 * u ** (1 / min(alpha, 1.0))
    return halves


@lru_cache(maxsize=8)
def _cumulative(alpha: float) -> Float64[np.ndarray, " steps"]:
    x = _half_power((np.arange(_TABLE_STEPS) + 0.5) / _TABLE_STEPS, alpha)
    density = x ** (alpha - min(alpha, 1.0)) * (1 - x) ** (alpha - 1)
    total = np.concatenate([np.zeros(1), np.cumsum(density)])
    shares: np.ndarray = total / total[-1]
    return shares


def next_in_ring(
    sample_ids: UInt64[np.ndarray, " samples"], words: Int64[np.ndarray, " samples"]
) -> Int64[np.ndarray, " samples"]:
    """The place of each sample's partner: the next one in the order of the words, by id among equals; the last one's is
    the first.

    Equal ids (equal images) count once, at the first place of theirs, so that they have one partner, and another image.
    """
    _, first, number = np.unique(sample_ids, return_index=True, return_inverse=True)
    order = np.argsort(words[first], kind="stable")
    following = np.empty_like(first)
    following[order] = first[np.roll(order, -1)]
    return following[number].astype(np.int64)
