"""Small families of networks for rows of a table, trained from nothing on a processor.

Each takes the codes of columns, int64 [batch, columns], and gives [batch, classes].
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import nn

from pipeline.core.bounds import Channels, Layers


class ColumnTables(nn.Module):
    """An embedding of `width` numbers for each code of each column, one behind the other.

    All columns have their codes in one table, each at its own offset.
    """

    offsets: torch.Tensor

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(sum(sizes), width)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        self.register_buffer("offsets", torch.tensor([0, *sizes[:-1]]).cumsum(0), persistent=False)

    def forward(self, codes: Int64[torch.Tensor, "batch columns"]) -> torch.Tensor:
        found: torch.Tensor = self.table(codes + self.offsets)
        return found


def mlp_small(num_classes: int, sizes: Sequence[int], *, width: Channels, depth: Layers) -> nn.Module:
    """Returns `depth` hidden layers over the embeddings of all columns.

    Args:
        width: Of hidden layers; an embedding has an eighth of it.
    """
    embedded = max(1, width // 8)
    layers: list[nn.Module] = [ColumnTables(sizes, embedded), nn.Flatten()]
    inputs = embedded * len(sizes)
    for _ in range(depth):
        layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, num_classes))
