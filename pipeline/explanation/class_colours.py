"""The colours of classes in a map of them."""

import numpy as np
from jaxtyping import Integer, UInt8

UNKNOWN = (224, 224, 192)  # as Pascal VOC draws what has no class
_BITS = 8
# Black, then colours that people with any colour vision can distinguish (Okabe and Ito), and more.
_FIRST = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (150, 150, 150),
    (120, 60, 160),
    (110, 70, 30),
)


def class_colours(count: int) -> UInt8[np.ndarray, "count 3"]:
    """Returns the colour of each class: the first are easy to distinguish, later ones are those
    that the masks of Pascal VOC have. There the bits of a number are dealt out to red, green and
    blue, the lowest to the brightest.

    >>> class_colours(13)[[0, 1, 12]].tolist()
    [[0, 0, 0], [230, 159, 0], [64, 0, 128]]

    References:
        Mark Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", 2010: the
        development kit's VOClabelcolormap.
    """
    numbers, colours = np.arange(count), np.zeros((count, 3), dtype=np.int64)
    for place in range(_BITS):
        for channel in range(3):
            colours[:, channel] |= ((numbers >> (3 * place + channel)) & 1) << (_BITS - 1 - place)
    colours[: len(_FIRST)] = _FIRST[:count]
    return colours.astype(np.uint8)


def paint(
    classes: Integer[np.ndarray, "height width"], colours: UInt8[np.ndarray, "count 3"]
) -> UInt8[np.ndarray, "3 height width"]:
    """Returns a map of classes in their colours; -1 is `UNKNOWN`."""
    table = np.concatenate([colours, np.array([UNKNOWN], np.uint8)])
    return np.moveaxis(table[classes.astype(np.int64)], 2, 0)
