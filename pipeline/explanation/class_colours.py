"""The colours of classes in a map of them."""

import numpy as np
from jaxtyping import Integer, UInt8

UNKNOWN = (224, 224, 192)  # as Pascal VOC draws what has no class
_BITS = 8


def class_colours(count: int) -> UInt8[np.ndarray, "count 3"]:
    """Returns the colour of each class, as the masks of Pascal VOC have them: class 0 is black, and
    the bits of a number are dealt out to red, green and blue, the lowest to the brightest.

    >>> class_colours(4).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]

    References:
        Mark Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", 2010: the
        development kit's VOClabelcolormap.
    """
    numbers, colours = np.arange(count), np.zeros((count, 3), dtype=np.int64)
    for place in range(_BITS):
        for channel in range(3):
            colours[:, channel] |= ((numbers >> (3 * place + channel)) & 1) << (_BITS - 1 - place)
    return colours.astype(np.uint8)


def paint(
    classes: Integer[np.ndarray, "height width"], colours: UInt8[np.ndarray, "count 3"]
) -> UInt8[np.ndarray, "3 height width"]:
    """Returns a map of classes in their colours; -1 is `UNKNOWN`."""
    table = np.concatenate([colours, np.array([UNKNOWN], np.uint8)])
    return np.moveaxis(table[classes.astype(np.int64)], 2, 0)
