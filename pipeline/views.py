"""Views: (images, sample ids, view number) -> pixels, as a pure function of the ViewSpec.

Nothing about a view is stored: the student replays what the teacher saw from the same numbers. Pixels stay whole
8-bit numbers, so a view is the same bits on every device and with every version of every library.
"""

from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int64, UInt8, UInt64
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.artifacts import fingerprint
from pipeline.config import STRICT, validate
from pipeline.seeding import integers_below, sample_draws

THUMBNAIL_PX = 32
_CROP_SLOT = 0  # each use of random numbers within a view has a slot of its own


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ViewSpec:
    """How views are made: pad with zeros and crop back at a random place, then flip left-right half of the time."""

    seed: Annotated[int, Field(ge=0, lt=2**64)]
    pad_px: Annotated[int, Field(ge=0, le=64)]
    flip_horizontal: bool

    def draw(self, sample_ids: UInt64[np.ndarray, " samples"], view: int) -> Int64[torch.Tensor, "samples 3"]:
        """Per sample: rows and columns that the crop is shifted by (0 to 2 pad_px), and 1 where it is flipped.

        Cheap for a whole split at once (about 0.1 microseconds a sample), so batches slice it.
        """
        words = sample_draws(self.seed, sample_ids, view, _CROP_SLOT)
        shift = integers_below(words[:2], 2 * self.pad_px + 1)
        flip = integers_below(words[2], 2) if self.flip_horizontal else torch.zeros_like(words[2])
        return torch.stack([*shift, flip], dim=1)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: object, where: str) -> "ViewSpec":
        """Raises ConfigError where `content` is not what `to_dict` gave."""
        spec: ViewSpec = validate(cls, content, where)
        return spec

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.to_dict())


def render(
    images: UInt8[torch.Tensor, "batch channels height width"],
    draws: Int64[torch.Tensor, "batch 3"],
    spec: ViewSpec,
) -> UInt8[torch.Tensor, "batch channels height width"]:
    """The views of a batch, from `spec.draw(...)` of its samples."""
    _, _, height, width = images.shape
    if spec.pad_px:
        windows = F.pad(images, (spec.pad_px,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        rows = torch.arange(len(images), device=images.device)
        images = windows[rows, :, draws[:, 0], draws[:, 1]]
    if spec.flip_horizontal:
        images = torch.where(draws[:, 2, None, None, None].bool(), images.flip(3), images)
    return images


def thumbnails(
    images: UInt8[torch.Tensor, "batch channels height width"],
) -> UInt8[torch.Tensor, "batch channels small_height small_width"]:
    """Images averaged down to at most 32 x 32 pixels: what a store keeps of its canaries."""
    height, width = (min(size, THUMBNAIL_PX) for size in images.shape[2:])
    if (height, width) == tuple(images.shape[2:]):
        return images
    return F.adaptive_avg_pool2d(images.double(), (height, width)).round().to(torch.uint8)
