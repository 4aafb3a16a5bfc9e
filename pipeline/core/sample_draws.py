"""Random words for each sample and view, as tensors."""

import numpy as np
import torch
from jaxtyping import Int64, UInt64

from pipeline.core.seeding import philox


def sample_draws(
    seed: int, sample_ids: UInt64[np.ndarray, " samples"], view: int, slot: int
) -> Int64[torch.Tensor, "4 samples"]:
    """Returns four random words in [0, 2^32) per sample for one view.

    `slot` numbers the independent uses within it.
    """
    ids = torch.from_numpy(sample_ids.view(np.int64))
    counter = (ids, ids >> 32, torch.full_like(ids, view), torch.full_like(ids, slot))
    return torch.stack(philox(seed, counter))
