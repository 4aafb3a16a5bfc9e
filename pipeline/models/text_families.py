"""Small families of networks for texts, trained from nothing on a processor.

Each takes tokens int64 [batch, tokens], 0 where there is none, and gives [batch, classes]. What a
text gives does not depend on the longer ones beside it: nothing behind its end is seen.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import nn

from pipeline.core.bounds import Channels, Layers
from pipeline.core.errors import ModelError

Heads = Annotated[int, Field(gt=0, le=1024)]
_SLOWEST = 10_000.0  # of the waves of positions: its wavelength / 2 pi in tokens


def _table(num_tokens: int, width: int) -> nn.Embedding:
    """Returns an embedding for each token, a row of zeros for none."""
    table = nn.Embedding(num_tokens + 1, width, padding_idx=0)
    with torch.no_grad():
        table.weight[1:].normal_(std=width**-0.5)
    return table


def _mean(
    features: Float[torch.Tensor, "batch tokens width"], there: Bool[torch.Tensor, "batch tokens"]
) -> torch.Tensor:
    """Returns the mean over the tokens of a text; of a text without any, 0."""
    weights = there.to(features.dtype)[:, :, None]
    return (features * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class _MeanOfTokens(nn.Module):
    """The mean of the embeddings of a text's tokens; of a text without any, 0."""

    def __init__(self, num_tokens: int, width: int) -> None:
        super().__init__()
        self.table = _table(num_tokens, width)

    def forward(self, tokens: Int64[torch.Tensor, "batch tokens"]) -> torch.Tensor:
        return _mean(self.table(tokens), tokens > 0)


def bag_small(num_classes: int, num_tokens: int, *, width: Channels) -> nn.Module:
    """Returns a linear layer over the mean of a text's embeddings, of `width` numbers each.

    References:
        Armand Joulin, Edouard Grave, Piotr Bojanowski, Tomas Mikolov, "Bag of Tricks for Efficient
        Text Classification", 2016, arXiv 1607.01759, section 2.
    """
    return nn.Sequential(_MeanOfTokens(num_tokens, width), nn.Linear(width, num_classes))


class _ConvolvedTokens(nn.Module):
    """The greatest value and the mean of each feature over a text, after residual convolutions.

    Positions behind the end are zeros before each convolution, as those before the first token are.
    """

    def __init__(self, num_tokens: int, width: int, depth: int) -> None:
        super().__init__()
        self.table = _table(num_tokens, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(depth))

    def forward(self, tokens: Int64[torch.Tensor, "batch tokens"]) -> torch.Tensor:
        there = tokens > 0
        shown = there[:, :, None]
        features = self.table(tokens)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            seen = norm(features) * shown
            features = features + F.relu(layer(seen.transpose(1, 2)).transpose(1, 2))
        # A text without tokens has no greatest value: 0 in its place.
        most = features.masked_fill(~shown, -torch.inf).amax(dim=1)
        most = most.masked_fill(~there.any(dim=1, keepdim=True), 0)
        return torch.cat([most, _mean(features, there)], dim=1)


def textconv_small(num_classes: int, num_tokens: int, *, width: Channels, depth: Layers) -> nn.Module:
    """Returns a network of `depth` convolutions over three tokens each, with `width` features, and
    the greatest value of each over the text beside its mean.

    References:
        Yoon Kim, "Convolutional Neural Networks for Sentence Classification", 2014, arXiv
        1408.5882, section 2 (the greatest value over time). Kaiming He et al., "Deep Residual
        Learning for Image Recognition", 2015, arXiv 1512.03385, section 3.
    """
    return nn.Sequential(_ConvolvedTokens(num_tokens, width, depth), nn.Dropout(0.1), nn.Linear(2 * width, num_classes))


class _Attention(nn.Module):
    """A layer of attention and one of two linear maps, each beside a shortcut, norms first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, features: torch.Tensor, there: Bool[torch.Tensor, "batch 1 1 tokens"]) -> torch.Tensor:
        batch, tokens, width = features.shape
        parts = self.queries(self.before(features)).view(batch, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=there)
        features = features + self.joined(seen.transpose(1, 2).reshape(batch, tokens, width))
        added: torch.Tensor = self.narrow(F.gelu(self.wide(self.between(features))))
        return features + added


class _AttendedTokens(nn.Module):
    """The mean of a text's features after layers of attention.

    A learned token stands before each text: so one without tokens has something to attend to.
    """

    rates: torch.Tensor

    def __init__(self, num_tokens: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.table = _table(num_tokens, width)
        self.first = nn.Parameter(torch.zeros(width))
        self.layers = nn.ModuleList(_Attention(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        half = -(-width // 2)
        rates = torch.exp(torch.arange(half) * (-math.log(_SLOWEST) / half))
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, tokens: Int64[torch.Tensor, "batch tokens"]) -> torch.Tensor:
        width = len(self.first)
        angles = torch.arange(tokens.shape[1], device=tokens.device)[:, None] * self.rates
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width] * width**-0.5
        first = self.first.expand(tokens.shape[0], 1, width)  # of any number, for export
        features = torch.cat([first, self.table(tokens) + waves], dim=1)
        there = torch.cat([torch.ones_like(tokens[:, :1], dtype=torch.bool), tokens > 0], dim=1)
        for layer in self.layers:
            features = layer(features, there[:, None, None])
        return _mean(self.norm(features), there)


def transformer_small(num_classes: int, num_tokens: int, *, width: Channels, depth: Layers, heads: Heads) -> nn.Module:
    """Returns a transformer of `depth` layers with `heads` heads, and a linear layer over the mean
    of its features.

    References:
        Ashish Vaswani et al., "Attention Is All You Need", 2017, arXiv 1706.03762, sections 3.1 to
        3.5. Ruibin Xiong et al., "On Layer Normalization in the Transformer Architecture", 2020,
        arXiv 2002.04745, section 3 (norms first).
    """
    if width % heads:
        found = f"width {width}, heads {heads}"
        raise ModelError("model 'transformer_small'", found, expected="a width that is a multiple of heads")
    layers = _AttendedTokens(num_tokens, width, depth, heads)
    return nn.Sequential(layers, nn.Dropout(0.1), nn.Linear(width, num_classes))
