"""Small families of networks for rows of a table, trained from nothing on a processor.

Each takes the codes of columns, int64 [batch, columns], and gives [batch, classes].
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import nn

from pipeline.core.bounds import Channels, Layers
from pipeline.data.row_columns import FIRST_NAME


class ColumnTables(nn.Module):
    """An embedding of `width` numbers for each code of each column.

    All columns have their codes in one table, each at its own offset. The first two codes of each
    column begin as 0: what is missing or unknown has no say until it was trained.
    """

    offsets: torch.Tensor

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(sum(sizes), width)
        offsets = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        with torch.no_grad():
            for code in range(FIRST_NAME):
                self.table.weight[offsets + code] = 0.0
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, codes: Int64[torch.Tensor, "batch columns"]) -> Float[torch.Tensor, "batch columns width"]:
        found: torch.Tensor = self.table(codes + self.offsets)
        return found


def mlp_small(num_classes: int, sizes: Sequence[int], *, width: Channels, depth: Layers) -> nn.Module:
    """Returns `depth` hidden layers over the embeddings of all columns.

    Args:
        width: Of hidden layers; an embedding has an eighth of it.
    """
    embedded = max(1, width // 8)
    hidden = _hidden(embedded * len(sizes), width, depth)
    return nn.Sequential(ColumnTables(sizes, embedded), nn.Flatten(), *hidden, nn.Linear(width, num_classes))


class _DeepFM(nn.Module):
    """A factorization machine and hidden layers over the same embeddings; their outputs add up."""

    def __init__(self, num_classes: int, sizes: Sequence[int], width: int, depth: int, embedded: int) -> None:
        super().__init__()
        self.tables = ColumnTables(sizes, embedded)
        self.first = ColumnTables(sizes, num_classes)
        self.second = nn.Linear(embedded, num_classes, bias=False)
        self.deep = nn.Sequential(nn.Flatten(), *_hidden(embedded * len(sizes), width, depth))
        self.head = nn.Linear(width, num_classes)
        nn.init.zeros_(self.first.table.weight)

    def forward(self, codes: Int64[torch.Tensor, "batch columns"]) -> Float[torch.Tensor, "batch classes"]:
        embedded = self.tables(codes)
        # The products of all pairs of columns, summed: half of (sum)^2 - sum of squares.
        pairs = (embedded.sum(dim=1).square() - embedded.square().sum(dim=1)) / 2
        logits: torch.Tensor = self.head(self.deep(embedded)) + self.second(pairs) + self.first(codes).sum(dim=1)
        return logits


def deepfm_small(
    num_classes: int, sizes: Sequence[int], *, width: Channels, depth: Layers, embedding: Channels
) -> nn.Module:
    """Returns a factorization machine beside hidden layers: which pairs of values go together, such
    as a user and an item, is learned from their embeddings' products.

    With one class, the products of pairs are weighted for each number of an embedding (`second`),
    which the paper has as 1; with several classes, each has its own weights.

    Args:
        width: Of `depth` hidden layers; `embedding` is the size of an embedding.

    References:
        Huifeng Guo, Ruiming Tang, Yunming Ye, Zhenguo Li, Xiuqiang He, "DeepFM: A
        Factorization-Machine based Neural Network for CTR Prediction", 2017, arXiv 1703.04247,
        sections 2.1 and 2.2. Steffen Rendle, "Factorization Machines", 2010, section III.B (pairs
        in linear time).
    """
    return _DeepFM(num_classes, sizes, width, depth, embedding)


def _hidden(inputs: int, width: int, depth: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        inputs = width
    return layers
