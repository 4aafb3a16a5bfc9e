"""Noise that each pixel gets on its own."""

import math
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float64

from pipeline.core.seeding import philox
from pipeline.evaluation.corruptions.base import Batch, Corruption, Ids, to_pixels


@final
class GaussianNoise(Corruption):
    """A draw of the normal distribution that is added to each pixel."""

    kind: ClassVar[str] = "gaussian_noise"
    #: Standard deviations, as shares of the range of pixels.
    strengths: ClassVar = (0.04, 0.06, 0.08, 0.09, 0.10)

    def _change(self, images: Batch, sample_ids: Ids, strength: float, seed: int) -> Batch:
        draws = normal_draws(seed, sample_ids, images[0].numel()).reshape(images.shape)
        return to_pixels(images + 255 * strength * draws)


def normal_draws(seed: int, sample_ids: Ids, count: int) -> Float64[torch.Tensor, "batch {count}"]:
    """Returns `count` numbers of the standard normal distribution for each sample.

    References:
        G. E. P. Box, Mervin E. Muller, "A note on the generation of random normal deviates", 1958,
        doi:10.1214/aoms/1177706645.
    """
    ids = torch.from_numpy(sample_ids.view(np.int64))
    # 1. Philox gives four words of 32 bits for each counter: (id's low word, its high word, place,
    # 0).
    fours = -(-count // 4)
    id_word = ids[:, None].expand(-1, fours)
    place = torch.arange(fours).expand(len(ids), -1)
    words = philox(seed, (id_word, id_word >> 32, place, torch.zeros_like(place)))
    # 2. A half is added, so that no uniform number is 0, of which there is no logarithm.
    uniform = [(word.double() + 0.5) / 2**32 for word in words]
    # 3. Each pair of uniform numbers makes a pair of normal ones.
    normal = []
    for first, second in (uniform[:2], uniform[2:]):
        radius, angle = (-2 * first.log()).sqrt(), 2 * math.pi * second
        normal += [radius * angle.cos(), radius * angle.sin()]
    return torch.stack(normal, dim=2).flatten(1)[:, :count]
