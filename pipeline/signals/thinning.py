"""Some positions of maps in place of all, where a split's outputs would take too much memory.

Of every so many rows and columns one stands for all: a sample so large that its figures are hardly
other ones.
"""

from typing import TypeVar

import torch

from pipeline.data.splits import HardLabels
from pipeline.signals.base import Outputs, Signal

MOST_VALUES = 1 << 27  # that are held of a split: 512 MiB in float32
_Maps = TypeVar("_Maps", bound=torch.Tensor)


def stride_for(num_samples: int, num_classes: int, height: int, width: int) -> int:
    """Returns of how many rows and columns one is kept, so that outputs at them can be held."""
    stride = 1
    while num_samples * num_classes * -(-height // stride) * -(-width // stride) > MOST_VALUES and stride < min(
        height, width
    ):
        stride += 1
    return stride


def thinned(maps: _Maps, stride: int) -> _Maps:
    """Returns maps, whose last dimensions are rows and columns, at every so many of both."""
    first = (stride - 1) // 2
    return maps[..., first::stride, first::stride]  # type: ignore[return-value]


def kept_outputs(outputs: Outputs, signal: Signal, num_samples: int) -> Outputs:
    """Returns what is kept of the outputs of some of a split's samples; of rows all of it.

    Args:
        num_samples: Of the split.
    """
    if signal.kind != "grid":
        return outputs
    return thinned(outputs, stride_for(num_samples, *outputs.shape[1:])).contiguous()  # the rest is let go


def kept_labels(hard_labels: HardLabels, signal: Signal, num_classes: int) -> HardLabels:
    """Returns the hard labels of a split where its outputs are kept."""
    if signal.kind != "grid":
        return hard_labels
    return thinned(hard_labels, stride_for(len(hard_labels), num_classes, *hard_labels.shape[1:]))
