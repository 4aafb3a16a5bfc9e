"""Arrays of labels: a class for each image, or an entry for each image and independent class."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int8, Shaped

from pipeline.core.errors import SourceError

_UNKNOWN = -1


def flat(labels: Shaped[np.ndarray, "..."], where: str) -> Shaped[np.ndarray, " labels"]:
    """Returns a number or name for each image; raises SourceError for another array."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise SourceError(where, f"an array of {labels.shape}", expected="one number or name per image")
    return labels


def entries(labels: Shaped[np.ndarray, "..."], where: str) -> Int8[np.ndarray, "labels classes"]:
    """Returns 1, 0 or -1 for each image and class; raises SourceError for another array.

    NaN is unknown, too.
    """
    if labels.ndim == 1:
        labels = labels[:, None]
    if labels.ndim != 2 or labels.dtype.kind not in "biuf":
        expected = "a number for each image and class: 1, 0 or -1 (unknown)"
        raise SourceError(where, f"an array of {labels.shape}, {labels.dtype}", expected=expected)
    known = np.where(np.isnan(labels), _UNKNOWN, labels) if labels.dtype.kind == "f" else labels
    odd = known[(known != 1) & (known != 0) & (known != _UNKNOWN)]
    if len(odd):
        raise SourceError(where, f"entry {odd[0]}", expected="1 (yes), 0 (no), or -1 or NaN (unknown)")
    return known.astype(np.int8)


def check_columns(labels: Int8[np.ndarray, "labels classes"], names: Sequence[str], where: str) -> None:
    """Raises SourceError where entries are of more or of fewer classes than there are."""
    if labels.shape[1] != len(names):
        expected = f"{len(names)}, one for each class ({names[0]!r} to {names[-1]!r})"
        raise SourceError(where, f"{labels.shape[1]} columns", expected=expected)
