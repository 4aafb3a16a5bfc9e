"""Hard labels as numbers, arrays of NumPy or tensors, and the fingerprint of samples with theirs.

A hard label is the number of a class, or -1 where the sample is unlabelled (int64 [samples]). Where
classes are independent it has an entry for each class: 1 for yes, 0 for no, -1 for unknown (int8
[samples, classes]). Where each position of an image has a class, it is a map of them (int16
[samples, height, width], -1 for unknown). A sample without a known entry is unlabelled. Only the
training split has unlabelled samples.
"""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Shaped, UInt64

if TYPE_CHECKING:
    import torch

UNLABELLED = -1  # in place of a hard label, or of one of its entries

_AT_ONCE = 1024  # maps

_Values = TypeVar("_Values", np.ndarray, "torch.Tensor")  # a helper of `prepare` begins without torch


def is_labelled(hard_labels: _Values) -> _Values:
    """Returns for each sample whether it has a class or, of independent classes, a known entry."""
    if hard_labels.ndim == 3:  # of maps, which may be on disk, some at a time
        pieces = [hard_labels[start : start + _AT_ONCE] for start in range(0, max(1, len(hard_labels)), _AT_ONCE)]
        labelled = [(piece != UNLABELLED).any(2).any(1) for piece in pieces]
        return _joined(labelled)
    known: _Values = hard_labels != UNLABELLED
    return known if known.ndim == 1 else known.any(1)  # type: ignore[return-value]


def _joined(pieces: list[_Values]) -> _Values:
    if isinstance(pieces[0], np.ndarray):
        return np.concatenate(pieces)
    import torch

    return torch.cat(pieces)


def rows_fingerprint(ids: UInt64[np.ndarray, " samples"], hard_labels: Shaped[np.ndarray, "samples ..."]) -> str:
    """Returns the fingerprint of a split that is yet to be written."""
    return pieces_fingerprint(ids, [hard_labels])


def pieces_fingerprint(
    ids: UInt64[np.ndarray, " samples"], hard_labels: Iterable[Shaped[np.ndarray, "some ..."]]
) -> str:
    """Returns the same, given hard labels that come in pieces."""
    digest = hashlib.sha256(ids.astype("<u8", copy=False).data)
    for some in hard_labels:
        digest.update(np.ascontiguousarray(some.astype(some.dtype.newbyteorder("<"), copy=False)).data)
    return digest.hexdigest()[:32]
