"""Pads an image with black and crops it back at a random place."""

from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.seeding import integers_below
from pipeline.data.hard_labels import UNLABELLED
from pipeline.views.operations.base import ImageOperation


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PadCrop(ImageOperation):
    """A shift by up to `pad_px` pixels along both axes; what comes in from outside is 0, in a map
    of classes unknown.
    """

    kind: Literal["pad_crop"] = "pad_crop"
    pad_px: Annotated[int, Field(ge=0, le=64)]

    num_words = 2

    @property
    def still(self) -> tuple[int, ...]:
        return (self.pad_px, self.pad_px)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns the first row and the first column of the window in the padded image."""
        return integers_below(words[:2], 2 * self.pad_px + 1).T

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return self._shift(images, draws, outside=0)

    def apply_to_maps(self, maps: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return self._shift(maps[:, None], draws, outside=UNLABELLED)[:, 0]

    def _shift(self, images: torch.Tensor, draws: torch.Tensor, outside: int) -> torch.Tensor:
        if self.pad_px == 0:
            return images
        height, width = images.shape[2:]
        if images.device.type == "cpu":  # NumPy copies windows several times as fast
            views = sliding_window_view(self._padded(images.numpy(), outside), (height, width), axis=(2, 3))
            tops, lefts = draws.numpy().T
            return torch.from_numpy(views[np.arange(len(images)), :, tops, lefts])
        padded = F.pad(images, (self.pad_px,) * 4, value=outside)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        rows = torch.arange(len(images), device=images.device)
        return windows[rows, :, draws[:, 0], draws[:, 1]]

    def _padded(self, images: np.ndarray, outside: int) -> np.ndarray:
        """Returns images with a margin. By NumPy, for torch's threads, which wait for more work at
        full speed, would take the processors from threads that decode images meanwhile.
        """
        pad, (count, channels, height, width) = self.pad_px, images.shape
        padded = np.empty((count, channels, height + 2 * pad, width + 2 * pad), images.dtype)
        padded[:, :, pad:-pad, pad:-pad] = images
        padded[:, :, :pad] = padded[:, :, -pad:] = outside
        padded[..., :pad] = padded[..., -pad:] = outside
        return padded
