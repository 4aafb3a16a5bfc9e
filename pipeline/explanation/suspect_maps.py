"""Training images whose map of classes the teacher contradicts most.

Where one class ends and the next begins, maps and teachers always differ a little, so a position is
no suspect. An image is one where far more of its map is contradicted than of others'.

The teacher's network is run over the images as they are: stored labels may be of cells, or of a few
positions of turned views.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import nn

from pipeline.data.hard_labels import is_labelled
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.data.splits import HardLabels
from pipeline.models.predict import predict_each
from pipeline.signals import Outputs

MOST_CHECKED = 10_000  # images, the first ones
_FENCE = 3.0  # interquartile ranges above the upper quartile
_LEAST_SHARE = 0.05  # of a map: less is not worth a look


@dataclass(frozen=True)
class Contradicted:
    """The images whose maps are contradicted far more than others', the worst first.

    Attributes:
        places: Their rows of the training split.
        shares: The share of each map's known positions that the teacher gives other classes.
        num_checked: The number of images that were looked at.
    """

    places: Int64[np.ndarray, " some"]
    shares: Float64[np.ndarray, " some"]
    num_checked: int


def contradicted_maps(
    teacher: nn.Module,
    train: SplitOnDisk,
    device: torch.device,
    batch_size: int,
    on_images: Callable[[int], object] = lambda count: None,
) -> Contradicted:
    """Returns the training images whose maps are probably wrong, of the first ones.

    They are above the outer fence of the shares: the upper quartile and three times the distance
    of the quartiles.

    References:
        John W. Tukey, "Exploratory Data Analysis", 1977, section 2D (far out values).
    """
    count, shares, start = min(len(train), MOST_CHECKED), [], 0
    batches = train.in_order(batch_size, slice(0, count))
    for outputs in predict_each(teacher, batches, device, on_batch=on_images):
        stop = start + len(outputs)
        shares.append(contradicted_share(outputs, train.hard_labels[start:stop].to(outputs.device)).cpu().numpy())
        start = stop
    known = np.flatnonzero(is_labelled(train.hard_labels[:count].numpy()))
    found = np.concatenate(shares)[known] if len(known) else np.empty(0)
    places = far_out(found)
    return Contradicted(known[places], found[places], len(known))


def contradicted_share(outputs: Outputs, maps: HardLabels) -> Float[torch.Tensor, " samples"]:
    """Returns the mean over the known positions of the probability that is not the label's; 0
    where nothing is known.
    """
    known = (maps >= 0).flatten(1)
    probs = torch.softmax(outputs.double(), dim=1).gather(1, maps.long().clamp(min=0)[:, None]).flatten(1)
    return ((1 - probs) * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)


def far_out(shares: Float64[np.ndarray, " images"]) -> Int64[np.ndarray, " some"]:
    """Returns the places of shares that are far above the others, the largest first."""
    if not len(shares):
        return np.empty(0, dtype=np.int64)
    low, high = np.quantile(shares, [0.25, 0.75])
    places = np.flatnonzero(shares > max(high + _FENCE * (high - low), _LEAST_SHARE))
    worst: np.ndarray = places[np.argsort(-shares[places], kind="stable")]
    return worst
