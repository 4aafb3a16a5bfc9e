"""Small families of networks for texts, trained from nothing on a processor.

Each takes tokens int64 [batch, tokens], 0 where there is none, and gives [batch, classes].
"""

import torch
from jaxtyping import Int64
from torch import nn

from pipeline.core.bounds import Channels


class _MeanOfTokens(nn.Module):
    """The mean of the embeddings of a text's tokens; of a text without any, 0."""

    def __init__(self, num_tokens: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_tokens + 1, width, padding_idx=0)

    def forward(self, tokens: Int64[torch.Tensor, "batch tokens"]) -> torch.Tensor:
        count = (tokens > 0).sum(dim=1, keepdim=True).clamp(min=1)
        mean: torch.Tensor = self.table(tokens).sum(dim=1) / count
        return mean


def bag_small(num_classes: int, num_tokens: int, *, width: Channels) -> nn.Module:
    """Returns a linear layer over the mean of a text's embeddings, of `width` numbers each.

    References:
        Armand Joulin, Edouard Grave, Piotr Bojanowski, Tomas Mikolov, "Bag of Tricks for Efficient
        Text Classification", 2016, arXiv 1607.01759, section 2.
    """
    return nn.Sequential(_MeanOfTokens(num_tokens, width), nn.Linear(width, num_classes))
