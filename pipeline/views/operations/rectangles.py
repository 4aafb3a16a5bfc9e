"""Random rectangles: sides in whole numbers, for images of any size, and the pixels inside."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Int64

from pipeline.views.operations.base import UNIT

FULL_SIDE = 1 << 31  # more than any image has: cut to the whole image


def draw_sides(
    words: Int64[torch.Tensor, "2 samples"], scale: tuple[float, float], ratio: tuple[float, float]
) -> Int64[torch.Tensor, "2 samples"]:
    """Returns height and width of rectangles, in 1/65536 of the square root of an image's area.

    Their share of the image's area is uniform in `scale`, their width / height log-uniform in
    `ratio`. They are whole numbers, because another library's logarithm may differ in its last bit.
    """
    uniform = words.numpy() / 2**32
    area = scale[0] + (scale[1] - scale[0]) * uniform[0]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = np.exp(low + (high - low) * uniform[1])
    sides = np.sqrt(np.stack([area / aspect, area * aspect]))
    return torch.from_numpy(np.rint(sides * UNIT).astype(np.int64))


def side_length(
    side: Int64[torch.Tensor, " batch"], image_size: int, image_area: int, steps: int
) -> Int64[torch.Tensor, " batch"]:
    """Returns a side that was drawn, in 1/`steps` pixels, halves up.

    It is at least one pixel and at most `image_size`.
    """
    root = math.isqrt(image_area << 16)  # in 1/256 pixel
    divisor = UNIT * 256 // steps
    return ((side * root + divisor // 2) // divisor).clamp(steps, steps * image_size)


def place(
    words: Int64[torch.Tensor, " batch"], length: Int64[torch.Tensor, " batch"], room: int
) -> Int64[torch.Tensor, " batch"]:
    """Returns the place where something of this length begins, wholly inside `room`.

    It is uniform over all such places.
    """
    return (words * (room - length + 1)) >> 32


def inside(
    top: Int64[torch.Tensor, " batch"],
    left: Int64[torch.Tensor, " batch"],
    height: Int64[torch.Tensor, " batch"],
    width: Int64[torch.Tensor, " batch"],
    image_size: tuple[int, int],
) -> Bool[torch.Tensor, "batch 1 image_height image_width"]:
    """Returns True for the pixels of a rectangle."""
    rows, columns = (torch.arange(size, device=top.device) for size in image_size)
    in_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    return in_rows[:, None, :, None] & in_columns[:, None, None, :]
