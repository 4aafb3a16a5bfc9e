"""Views of two samples: a share of one, and the rest of its partner in the same block of a store.

`Mixing` is what views of any kind of samples have in common; `SharedMixing` draws the share of the
partner; `ImageMixing` is for images, which may have a map of classes.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, Integer, UInt8, UInt64
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.views.operations.base import UNIT, Maps, Operation, Probability, happens

_TABLE_STEPS = 4096


class Mixing(Operation):
    """A view that is mixed of two samples. Its settings and draws are the subclass's."""

    #: Whether the partner's hard label counts, too; else all shares are 1.
    mixes_labels: ClassVar[bool] = True

    @abstractmethod
    def mix(
        self,
        inputs: Integer[torch.Tensor, "batch ..."],
        partners: Integer[torch.Tensor, "batch ..."],
        draws: Int64[torch.Tensor, "batch columns"],
    ) -> Integer[torch.Tensor, "batch ..."]:
        """Returns both samples in one, after all other operations on either."""

    @abstractmethod
    def own_shares(
        self, draws: Int64[torch.Tensor, "samples columns"], input_shape: Sequence[int]
    ) -> Float32[torch.Tensor, " samples"]:
        """Returns the first sample's share of each view, 0.5 to 1."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SharedMixing(Mixing):
    """A view that is mixed of two samples with `probability`, each with a share of it.

    The own share is the larger of l and 1 - l, with l ~ Beta(alpha, alpha). So the sample that a
    view belongs to is the one that it shows most of.
    """

    kind: str
    alpha: Annotated[float, Field(gt=0, le=100)]
    probability: Probability

    def _draw_shares(self, words: Int64[torch.Tensor, "words samples"]) -> Int64[torch.Tensor, " samples"]:
        """Returns the partner's share, up to a half, in units of 1/65536."""
        shares = partner_shares((words[1].numpy() + 0.5) / 2**32, self.alpha)
        drawn = torch.from_numpy(np.rint(shares * UNIT).astype(np.int64))
        return drawn * happens(words[0], self.probability)


class ImageMixing(SharedMixing):
    """A view that is mixed of two images, and of the maps of classes of their pixels."""

    @abstractmethod
    def mix(
        self,
        images: UInt8[torch.Tensor, "batch channels height width"],
        partners: UInt8[torch.Tensor, "batch channels height width"],
        draws: Int64[torch.Tensor, "batch columns"],
    ) -> UInt8[torch.Tensor, "batch channels height width"]:
        """Returns both images in one."""

    @abstractmethod
    def mix_maps(self, maps: Maps, partners: Maps, draws: Int64[torch.Tensor, "batch columns"]) -> Maps:
        """Returns the class of each pixel of the mixed images, -1 where it shows two."""


def partner_shares(uniform: Float64[np.ndarray, " samples"], alpha: float) -> Float64[np.ndarray, " samples"]:
    """Returns min(l, 1 - l) of l ~ Beta(alpha, alpha), from uniform numbers in (0, 1).

    With x = 0.5 u^(1/b) and b = min(alpha, 1), the density of u is bounded:

        x^(alpha - b) (1 - x)^(alpha - 1)

    So a table of its integral is enough. scipy would bring the inverse, and 100 MB.
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
    """Returns the place of each sample's partner: the next one in the order of the words.

    Among equal words, ids decide. The partner of the last one is the first. Equal ids (equal
    samples) count once, at their first place, so that they have one partner, and that is another
    sample.
    """
    # 1. One place for each sample; np.unique sorts by id, so that the order of rows does not
    # matter.
    _, first, number = np.unique(sample_ids, return_index=True, return_inverse=True)
    # 2. A ring in the order of the words: no sample is its own partner, and each is partner once.
    order = np.argsort(words[first], kind="stable")
    following = np.empty_like(first)
    following[order] = first[np.roll(order, -1)]
    # 3. Back to rows: equal samples share their partner.
    return following[number].astype(np.int64)
