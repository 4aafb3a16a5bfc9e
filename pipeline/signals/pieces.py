"""Values per sample, computed for some samples at a time."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Shaped

VALUES_AT_ONCE = 1 << 20  # 8 MB in float64, of which softmax and the like hold some at once


def by_pieces(
    values_of: Callable[..., Shaped[torch.Tensor, "some ..."]], *columns: Shaped[torch.Tensor, "samples ..."]
) -> Shaped[torch.Tensor, "samples ..."]:
    """Returns the values of each sample, which must not depend on the others.

    Of 10,000 samples and as many classes all logits at once would take 0.8 GB in float64, and again
    for every step of a formula.

    Args:
        values_of: Called with the same rows of all `columns`, of which the first are logits.
    """
    rows, count = max(1, VALUES_AT_ONCE // max(1, math.prod(columns[0].shape[1:]))), len(columns[0])
    if count <= rows:
        return values_of(*columns)
    values = None
    for start in range(0, count, rows):
        some = values_of(*(each[start : start + rows] for each in columns))
        if values is None:  # all of it at once: small tensors kept between large ones scatter memory
            values = some.new_empty((count, *some.shape[1:]))
        values[start : start + rows] = some
    assert values is not None, "there are more samples than in a piece"
    return values
