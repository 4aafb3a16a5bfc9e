"""Masks of images -> maps of classes, in the geometry in which the images are made ready."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int16, Int64, UInt8

from pipeline.core.errors import SourceError
from pipeline.data.file_content import DecodeError
from pipeline.data.hard_labels import UNLABELLED
from pipeline.preparation.index_images import decode_numbers
from pipeline.preparation.sources.mask import Mask

Map = Int16[np.ndarray, "height width"]


def read_mask(mask: Mask) -> Map:
    """Returns the class of each pixel of a mask, -1 where it is unknown.

    Raises:
        DecodeError: It can't be read as numbers.
        SourceError: A number is no class.
    """
    try:
        numbers = decode_numbers(mask.content)
    except DecodeError as error:
        raise DecodeError(f"its mask {mask.where}: {error.reason}") from None
    classes = numbers.astype(np.int16)
    if mask.kind.ignore is not None:
        classes[numbers == mask.kind.ignore] = UNLABELLED
    _check(classes, mask)
    return classes


def _check(classes: Map, mask: Mask) -> None:
    count = len(mask.kind.class_names)
    if (highest := int(classes.max(initial=UNLABELLED))) < count:
        return
    row, column = np.argwhere(classes == highest)[0].tolist()
    found = f"the number {highest} (row {row}, column {column})"
    fix = f"name it in `classes`, or set `ignore: {highest}` if it stands for unknown"
    raise SourceError(mask.where, found, expected=f"0 to {count - 1}, as there are {count} classes", fix=fix)


def make_map(mask: Mask, image_size: tuple[int, int], size: tuple[int, int]) -> Map:
    """Returns the map of an image that was fitted to a size (height, width).

    Raises DecodeError as `read_mask` does, and where the mask has another size than the image had.
    """
    classes = read_mask(mask)
    if classes.shape != image_size:
        found, expected = (" x ".join(map(str, shape)) for shape in (classes.shape, image_size))
        raise DecodeError(f"its mask {mask.where} has {found} pixels (height x width), the image {expected}")
    return fit_map(classes, size)


def fit_map(classes: Map, size: tuple[int, int]) -> Int16[np.ndarray, "_ _"]:
    """Returns a map scaled and cut as `fit` in pipeline/data/decoding.py does with an image.

    Each new pixel is of the class of the old one that its centre lies in; of a centre between two
    that is the lower or the right one.
    """
    (height, width), (new_height, new_width) = classes.shape, size
    if (height, width) == size:
        return classes
    by_width = new_width * height >= new_height * width  # the width fits, the height is cut
    old, new = (width, new_width) if by_width else (height, new_height)
    rows, columns = (_picked(sides, old, new) for sides in ((height, new_height), (width, new_width)))
    picked: Int16[np.ndarray, "_ _"] = classes[rows][:, columns]
    return picked


def _picked(sides: tuple[int, int], old: int, new: int) -> Int64[np.ndarray, " new_pixels"]:
    """Returns the old pixel of each new one along an axis, where `old` pixels become `new`."""
    old_side, new_side = sides
    return (old_side * new + old * (2 * np.arange(new_side) + 1 - new_side)) // (2 * new)


def classes_in(maps: Int16[np.ndarray, "maps height width"], num_classes: int) -> UInt8[np.ndarray, "maps classes"]:
    """Returns 1 for each class that a map has, 0 for others."""
    found = np.zeros((len(maps), num_classes), np.uint8)
    for row, one in zip(found, maps, strict=True):
        row[np.unique(one[one != UNLABELLED])] = 1
    return found


def stacked(maps: Sequence[Map | None], size: tuple[int, ...]) -> Int16[np.ndarray, "maps height width"]:
    """Returns maps as one array; one that is not there is unknown throughout."""
    whole = np.full((len(maps), *size), UNLABELLED, np.int16)
    for row, one in zip(whole, maps, strict=True):
        if one is not None:
            row[:] = one
    return whole
