"""Mirrors an image, left to right or upside down."""

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.views.operations.base import ImageOperation, Probability, happens


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Flip(ImageOperation):
    """An image that is mirrored along an axis with `probability`."""

    kind: str
    probability: Probability

    num_words = 1
    _axis: ClassVar[int]

    @property
    def still(self) -> tuple[int, ...]:
        return (0,)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns 1 where the image is mirrored."""
        return happens(words[0], self.probability).long()[:, None]

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        if images.device.type == "cpu":  # only those that are mirrored, by NumPy: several times as fast
            rows, views = draws[:, 0].numpy().nonzero()[0], images.numpy().copy()
            views[rows] = self._mirrored(views[rows])
            return torch.from_numpy(views)
        return torch.where(draws.bool()[:, :, None, None], images.flip(self._axis), images)

    def apply_to_maps(self, maps: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return self.apply(maps[:, None], draws)[:, 0]

    def _mirrored(self, images: np.ndarray) -> np.ndarray:
        return np.flip(images, self._axis)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FlipHorizontal(_Flip):
    """An image that is mirrored left to right with `probability`."""

    kind: Literal["flip_horizontal"] = "flip_horizontal"

    _axis = 3

    def _mirrored(self, images: np.ndarray) -> np.ndarray:
        """Returns images mirrored by words of 8, 4 or 2 pixels, whose bytes change places, too.

        That is twice as fast as pixel by pixel.
        """
        size = math.gcd(images.shape[3], 8) if images.dtype == np.uint8 else 1
        if size == 1:
            return super()._mirrored(images)
        return np.ascontiguousarray(images).view(f"u{size}")[..., ::-1].byteswap().view(np.uint8)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FlipVertical(_Flip):
    """An image that is turned upside down with `probability`."""

    kind: Literal["flip_vertical"] = "flip_vertical"

    _axis = 2
