"""The classes besides the hard label."""

import torch
from jaxtyping import Int64


def other_classes(hard_labels: Int64[torch.Tensor, " batch"], num_classes: int) -> Int64[torch.Tensor, "batch others"]:
    """Returns the numbers of all classes except the hard label, ascending.

    >>> other_classes(torch.tensor([0, 2]), 4)
    tensor([[1, 2, 3],
            [0, 1, 3]])
    """
    numbers = torch.arange(num_classes - 1, device=hard_labels.device)
    return numbers + (numbers >= hard_labels[:, None])
