"""A few numbers of views, which a store keeps as canaries: pixels of images, words of texts."""

import numpy as np
import torch
from jaxtyping import Integer, UInt64

from pipeline.core.sample_draws import sample_draws
from pipeline.core.seeding import integers_below

_FIRST_SLOT = 256  # of the random words; those of operations are below 200


def pick_points(
    views: Integer[torch.Tensor, "batch ..."],
    count: int,
    seed: int,
    sample_ids: UInt64[np.ndarray, " batch"],
    view: int,
) -> Integer[torch.Tensor, "batch channels points"]:
    """Returns `count` numbers of each view, in each channel, at places that its sample, view number
    and seed decide.

    A shift by one pixel changes pixels by more levels than it changes means of many.
    """
    if views.ndim == 2:  # what has no channels has one, of a single row
        views = views[:, None, None]
    height, width = views.shape[2:]
    slots = range(_FIRST_SLOT, _FIRST_SLOT - (-count // 2))
    words = torch.stack([sample_draws(seed, sample_ids, view, slot) for slot in slots])  # [slots, 4, batch]
    rows, columns = integers_below(words[:, 0::2], height), integers_below(words[:, 1::2], width)
    places = (rows * width + columns).flatten(0, 1)[:count].T
    return views.flatten(2).gather(2, places[:, None].expand(-1, views.shape[1], -1))
