"""Some positions of maps in place of all, where a split's outputs would take too much memory.

Of every so many rows and columns one stands for all: a sample so large that its figures are hardly
other ones.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch

from pipeline.data.splits import HardLabels
from pipeline.signals.base import Outputs

MOST_VALUES = 1 << 27  # that are held of a split: 512 MiB in float32
_Maps = TypeVar("_Maps", bound=torch.Tensor)


def kept_outputs(outputs: Outputs, num_samples: int, most: int | None = None) -> Outputs:
    """Returns what is kept of the outputs of some of a split's samples; of rows all of it.

    Args:
        num_samples: Of the split.
        most: The number of values to keep of a split; None: `MOST_VALUES`.
    """
    if outputs.ndim != 4:
        return outputs
    return thinned(outputs, stride_for(num_samples, outputs.shape[1:], most)).contiguous()  # the rest is let go


def kept_labels(hard_labels: HardLabels, num_classes: int, most: int | None = None) -> HardLabels:
    """Returns the hard labels of a split where its outputs are kept."""
    if hard_labels.ndim != 3:
        return hard_labels
    return thinned(hard_labels, stride_for(len(hard_labels), [num_classes, *hard_labels.shape[1:]], most))


def stride_for(num_samples: int, shape: Sequence[int], most: int | None = None) -> int:
    """Returns of how many rows and columns one is kept.

    Args:
        shape: Classes, height and width of a sample's outputs.
    """
    classes, height, width = shape
    stride, allowed = 1, (most or MOST_VALUES) // (num_samples * classes)
    while -(-height // stride) * -(-width // stride) > allowed and stride < min(height, width):
        stride += 1
    return stride


def thinned(maps: _Maps, stride: int) -> _Maps:
    """Returns maps, whose last dimensions are rows and columns, at every so many of both."""
    first = (stride - 1) // 2
    return maps[..., first::stride, first::stride]  # type: ignore[return-value]
