"""The pixel levels of an image, counted."""

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

_MANY_PIXELS = 1 << 13


def levels_of(image: UInt8[np.ndarray, "channels height width"]) -> Int64[np.ndarray, "channels 256"]:
    """Returns how often each pixel level is in an image, by channel.

    PIL takes a third of the time that `np.bincount` does, which first makes 8 bytes of each pixel;
    of small images it takes longer.
    """
    if image[0].size < _MANY_PIXELS:
        return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in image])
    return np.array([Image.fromarray(channel).histogram() for channel in image])
