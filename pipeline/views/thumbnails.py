"""Small pictures of views, which a store of format 1 keeps as canaries."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import UInt8

THUMBNAIL_PX = 32


def thumbnails(
    images: UInt8[torch.Tensor, "batch channels height width"],
) -> UInt8[torch.Tensor, "batch channels small_height small_width"]:
    """Returns images averaged down to at most 32 x 32 pixels."""
    _, height, width = thumbnail_shape(images.shape[1:])
    if (height, width) == tuple(images.shape[2:]):
        return images
    return F.adaptive_avg_pool2d(images.double(), (height, width)).round().to(torch.uint8)


def thumbnail_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """Returns channels, height and width of the thumbnail of an image of some shape."""
    channels, height, width = image_shape
    return channels, min(height, THUMBNAIL_PX), min(width, THUMBNAIL_PX)
