"""Small networks that give logits at each pixel: down to a coarse picture and up again."""

from itertools import pairwise
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import nn

from pipeline.core.bounds import Channels, Layers
from pipeline.core.errors import ModelError
from pipeline.models.blocks import conv_norm_relu

Widths = Annotated[list[Channels], Field(min_length=2, max_length=12)]
Up = Literal["bilinear", "transposed"]


def unet_small(num_classes: int, channels: int, *, widths: Widths, depth: Layers, up: Up) -> nn.Module:
    """Returns a U-Net for small images.

    `widths` lists the channels at full size, at a half of it, at a quarter and so on; there are
    `depth` convolutions of 3 x 3 at each size on the way down, and as many on the way up, after
    what was there on the way down is put beside what comes from below. `up` says how that doubles
    its size: by interpolation after a convolution of 1 x 1, or by a transposed convolution.

    References:
        Olaf Ronneberger, Philipp Fischer, Thomas Brox, "U-Net: Convolutional Networks for
        Biomedical Image Segmentation", 2015, arXiv 1505.04597, section 2 (here with padding and
        batch norm).
    """
    return _UNet(num_classes, channels, widths, depth, up)


class _UNet(nn.Module):
    """A U-Net."""

    def __init__(self, num_classes: int, channels: int, widths: Widths, depth: int, up: Up) -> None:
        super().__init__()
        steps = list(pairwise(widths))
        self.top = _convs(channels, widths[0], depth)
        self.down = nn.ModuleList(nn.Sequential(nn.MaxPool2d(2), _convs(wide, narrow, depth)) for wide, narrow in steps)
        self.larger = nn.ModuleList(_doubling(below, own, up) for own, below in reversed(steps))
        self.up = nn.ModuleList(_convs(2 * own, own, depth) for own, _ in reversed(steps))
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(
        self, images: Float[torch.Tensor, "batch channels height width"]
    ) -> Float[torch.Tensor, "batch classes height width"]:
        self._check_size(*images.shape[2:])
        found = [self.top(images)]
        for shrink in self.down:
            found.append(shrink(found[-1]))
        features = found.pop()
        for larger, convs in zip(self.larger, self.up, strict=True):
            features = convs(torch.cat([found.pop(), larger(features)], dim=1))
        logits: torch.Tensor = self.head(features)
        return logits

    def _check_size(self, height: int, width: int) -> None:
        """Raises ModelError where a side can't be halved at every step."""
        cell = 2 ** len(self.down)
        if height % cell or width % cell:
            found = f"has {len(self.down) + 1} widths, each at half the size before, and images are {height} x {width}"
            fix = "take fewer widths, or resize: input: {size_px: ...}, or prepare: {image_px: ...}"
            raise ModelError("model 'unet_small'", found, expected=f"sides that are multiples of {cell}", fix=fix)


def _convs(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(conv_norm_relu(outputs if number else inputs, outputs) for number in range(depth)))


def _doubling(inputs: int, outputs: int, up: Up) -> nn.Module:
    """Returns what doubles the size of a picture."""
    if up == "transposed":
        return nn.ConvTranspose2d(inputs, outputs, 2, 2)
    larger = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1), larger)
