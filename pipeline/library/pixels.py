"""One image in any usual form, as pixels."""

from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from pipeline.core.errors import DataError

_CHANNELS = (1, 3)  # grey and colour, where the axes of an array must be guessed
_MODES = ("L", "RGB")  # of PIL, whose pixels are 8 bits
_FORMS = "uint8: a tensor [channels, height, width], an array [height, width] with or without channels, or PIL"


def as_pixels(image: Any, where: str = "image") -> UInt8[np.ndarray, "channels height width"]:
    """Returns the pixels of an image, copied only where they lie in another order.

    A tensor has its channels first, as torch has them. An array has 1 or 3 of them, first or last.

    >>> [as_pixels(np.zeros(shape, np.uint8)).shape for shape in [(28, 28), (28, 30, 3)]]
    [(1, 28, 28), (3, 28, 30)]

    Raises:
        DataError: It is no such image, or its pixels are not 8 bits.
    """
    if hasattr(image, "getbands"):  # PIL, which need not be installed
        if image.mode not in _MODES:
            fix = "convert it in your data set: image.convert('RGB')"
            raise DataError(where, f"a PIL image of mode {image.mode}", expected=" or ".join(_MODES), fix=fix)
        image = np.asarray(image)
    is_tensor = isinstance(image, torch.Tensor)
    pixels = image.cpu().numpy() if is_tensor else image
    if not isinstance(pixels, np.ndarray):
        raise DataError(where, f"a {type(image).__name__}", expected=_FORMS)
    if pixels.dtype != np.uint8:
        fix = "give the pixels as they are, before they are made floats or normalised"
        raise DataError(where, f"{pixels.dtype} of shape {list(pixels.shape)}", expected=_FORMS, fix=fix)
    if pixels.ndim == 2:
        return pixels[None]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise DataError(where, f"uint8 of shape {list(pixels.shape)}", expected=_FORMS)
    return pixels if is_tensor else _channels_first(pixels, where)


def _channels_first(pixels: np.ndarray, where: str) -> UInt8[np.ndarray, "channels height width"]:
    first, last = (pixels.shape[axis] in _CHANNELS for axis in (0, 2))
    if first == last:
        found = (
            f"an array of shape {list(pixels.shape)}, whose axis of channels is {'either' if first else 'neither'} end"
        )
        raise DataError(where, found, expected="1 or 3 channels, first or last", fix="give it as a tensor")
    return pixels if first else np.ascontiguousarray(pixels.transpose(2, 0, 1))
