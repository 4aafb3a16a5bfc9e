"""The outputs of a network at positions: in memory, or in a file where they are large.

Figures are computed from some samples at a time (signals/pieces.py), so that the system holds as
much of such a file in memory as there is room for.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32

MOST_HELD_BYTES = 1 << 28  # of one network's outputs, in memory


def collect(
    parts: Iterable[Float[torch.Tensor, "_ ..."]], count: int, folder: Path
) -> Float32[torch.Tensor, "samples ..."]:
    """Returns consecutive outputs as one.

    Args:
        count: The number of samples in all.
        folder: The place of the file, which has no name and goes with the tensor.
    """
    whole, start = torch.empty(0), 0
    for part in parts:
        if start == 0:
            whole = _room((count, *part.shape[1:]), folder)
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def _room(shape: tuple[int, ...], folder: Path) -> Float32[torch.Tensor, "samples ..."]:
    whole = torch.empty(shape, device="meta")
    if whole.nbytes <= MOST_HELD_BYTES:
        return torch.empty(shape)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="w+", shape=shape))
