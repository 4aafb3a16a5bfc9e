"""Brightness, contrast and saturation: an image blended with another one by a factor."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Int, UInt8
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.core.seeding import integers_below
from pipeline.views.operations.base import UNIT, ImageOperation, Probability, blend

_RGB = 3


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Factor(ImageOperation):
    """An image blended with another one: factor x image + (1 - factor) x other.

    The factor is uniform in [1 - strength, 1 + strength].
    """

    kind: str
    strength: Probability

    num_words = 1

    @property
    def still(self) -> tuple[int, ...]:
        return (UNIT,)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns the factor in units of 1/65536."""
        most = round(self.strength * UNIT)
        return (UNIT - most + integers_below(words[0], 2 * most + 1))[:, None]

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return blend(images, self._other(images), draws[:, 0])

    def apply_to_maps(self, maps: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return maps

    @abstractmethod
    def _other(self, images: UInt8[torch.Tensor, "batch channels height width"]) -> Int[torch.Tensor, "batch _ _ _"]:
        """Returns the image that a factor of 0 would give."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Brightness(_Factor):
    """An image blended with black."""

    kind: Literal["brightness"] = "brightness"

    def _other(self, images: torch.Tensor) -> torch.Tensor:
        return images.new_zeros((len(images), 1, 1, 1), dtype=torch.int32)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Contrast(_Factor):
    """An image blended with its own mean grey, rounded, halves up.

    Of images that are not RGB, it is the mean of all levels.
    """

    kind: Literal["contrast"] = "contrast"

    def _other(self, images: torch.Tensor) -> torch.Tensor:
        levels = (_grey(images) if images.shape[1] == _RGB else images).flatten(1)
        count = levels.shape[1]
        return ((2 * levels.sum(dim=1, dtype=torch.int64) + count) // (2 * count))[:, None, None, None]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Saturation(_Factor):
    """An image whose pixels are each blended with their own grey; for RGB images alone."""

    kind: Literal["saturation"] = "saturation"

    def _other(self, images: torch.Tensor) -> torch.Tensor:
        return _grey(images)

    def check(self, image_shape: Sequence[int], where: str) -> None:
        if image_shape[0] != _RGB:
            found = f"saturation of images with {image_shape[0]} channel{'s' if image_shape[0] > 1 else ''}"
            raise ConfigError(where, found, expected="RGB images", fix="leave this operation out")


def _grey(
    images: UInt8[torch.Tensor, "batch 3 height width"],
) -> Int[torch.Tensor, "batch 1 height width"]:
    """Returns the luma of ITU-R BT.601, weights to 2^-16, to the nearest level."""
    red, green, blue = images.to(torch.int32).unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + UNIT // 2) >> 16)[:, None]
