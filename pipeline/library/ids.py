"""Sample ids of images, and sample ids in any whole numbers."""

from collections.abc import Iterable
from operator import index
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt64

from pipeline.core.errors import DataError
from pipeline.data import sample_ids as ids
from pipeline.library.pixels import as_pixels


def sample_ids(images: Iterable[Any]) -> UInt64[np.ndarray, " images"]:
    """Returns the sample id of each image, a number made of its pixels alone.

    Whoever has the same pixels has the same ids: that is how labels find their images.

    Args:
        images: A batch, or any number of images one after the other: tensors [channels, height,
            width], arrays with or without channels, PIL; all uint8.

    >>> import torch
    >>> grey = torch.arange(8, dtype=torch.uint8).reshape(2, 1, 2, 2)
    >>> [f"{number:016x}" for number in sample_ids(grey)]
    ['06fd25651a385503', 'e142aa503d83bfeb']
    >>> bool(sample_ids(grey[:, 0].numpy())[1] == sample_ids(grey)[1])
    True

    Raises:
        DataError: Something is no image of 8 bits.
    """
    found = [ids.sample_ids(as_pixels(image, f"image {number}")[None]) for number, image in enumerate(images)]
    return np.concatenate([np.empty(0, np.uint64), *found])


def as_ids(given: Any) -> UInt64[np.ndarray, " samples"]:
    """Returns sample ids as numbers without a sign, from tensors, arrays or whole numbers of 64
    bits with a sign or without.

    >>> as_ids([-1, 2**64 - 1, 5])[:2] == as_ids(torch.tensor([-1, -1]))
    array([ True,  True])

    Raises:
        DataError: They are no whole numbers, or not in a row.
    """
    if isinstance(given, torch.Tensor):
        given = given.cpu().numpy()
    if not isinstance(given, np.ndarray):
        given = _numbers(list(given))
    if given.ndim != 1 or (len(given) and given.dtype.kind not in "iu"):
        found = f"{given.dtype} of shape {list(given.shape)}"
        raise DataError("sample ids", found, expected="whole numbers in a row, as potstill.sample_ids makes them")
    numbers: UInt64[np.ndarray, " samples"] = given.astype(np.uint64)
    return numbers


def _numbers(given: list[Any]) -> np.ndarray:
    """Returns whole numbers of any type as 64 bits without a sign; anything else as it is."""
    try:
        return np.array([index(number) % 2**64 for number in given], dtype=np.uint64)
    except TypeError:
        return np.array(given)
