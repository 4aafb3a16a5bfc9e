"""A network that takes texts: their words as the tokens of its own tokenizer."""

from collections.abc import Sequence

import torch
from jaxtyping import Int32, Int64
from tokenizers import Tokenizer
from torch import nn

from pipeline.data.content_files import TOKENIZER
from pipeline.models.classifier import PLAIN, Classifier, Outputs, Portable
from pipeline.models.word_tokens import tokens_of

NOTHING = 0  # in place of a token: behind the end of a text. Others are their number plus 1


class TextClassifier(Classifier):
    """A network that takes words; each is looked up in a table of tokens.

    Words are cut into tokens once, when this is made, so that a batch costs a few look-ups.

    Args:
        words: The words that numbers stand for, from 0 on.
        most_tokens: Texts are cut to so many tokens.

    Attributes:
        prefix: Stands before a word when it is cut into tokens: a space, or nothing.
    """

    input_name = "tokens"
    starts: torch.Tensor
    tokens: torch.Tensor

    def __init__(
        self, network: nn.Module, words: Sequence[str], tokenizer: Tokenizer, most_tokens: int, outputs: Outputs = PLAIN
    ) -> None:
        super().__init__(network, outputs)
        self._most = most_tokens
        self._tokenizer_file = tokenizer.to_str().encode()  # text, because networks are copied
        starts, tokens, self.prefix = tokens_of(words, tokenizer)
        # They follow from files that are kept with the weights.
        self.register_buffer("starts", starts, persistent=False)
        self.register_buffer("tokens", tokens, persistent=False)

    def portable(self) -> Portable:
        """Returns the network as it takes tokens; its tokenizer comes as a file."""
        network = TokenClassifier(self.network, self.meaning)
        network.name = self.name
        network.load_state_dict(self.state_dict())
        return Portable(
            network.train(self.training),
            self.input_name,
            self.to_network,
            open_axes={1: "tokens"},
            most=self._most,
            facts={"max_tokens": self._most, "prefix": self.prefix},
            files={TOKENIZER: self._tokenizer_file},
        )

    def to_network(self, inputs: Int32[torch.Tensor, "batch words"]) -> Int64[torch.Tensor, "batch tokens"]:
        """Returns the tokens of each text plus 1, `NOTHING` behind its end: as many as the longest
        text here has, at least 1.
        """
        words = inputs.long()
        # 1. The tokens of each word, and where they end in their text.
        begins = self.starts[words]
        counts = self.starts[words + 1] - begins
        ends = counts.cumsum(dim=1)
        length = int(ends[:, -1].clamp(max=self._most).max()) if len(words) else 1
        # 2. Of each place in a text the word that it lies in, and its place in the word.
        places = torch.arange(max(1, length), device=words.device).expand(len(words), -1).contiguous()
        word = torch.searchsorted(ends, places, right=True).clamp(max=words.shape[1] - 1)
        offset = places - (ends - counts).gather(1, word)
        # 3. The token there; nothing behind the last word.
        found = self.tokens[(begins.gather(1, word) + offset).clamp(max=len(self.tokens) - 1)] + 1
        return found.masked_fill(places >= ends[:, -1:], NOTHING)


class TokenClassifier(Classifier):
    """A network of texts without the look-up of words: it takes tokens plus 1."""

    input_name = TextClassifier.input_name

    def to_network(self, inputs: Int64[torch.Tensor, "batch tokens"]) -> Int64[torch.Tensor, "batch tokens"]:
        return inputs
