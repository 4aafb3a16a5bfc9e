"""Words cut into tokens, each on its own: a table that a network of texts looks words up in.

A view may leave out, hide or swap words, so that a text is cut word by word. Most tokenizers give
the same tokens for a whole text; how many differ for one that does not is told.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from tokenizers import Tokenizer

from pipeline.core.progress import say
from pipeline.data.input_kinds import FIRST_WORD, MASKED, PAD

_AT_ONCE = 500  # words in a list that is cut at once, and lists in a batch: 250,000 words take 100 MB
_TRIED = 500  # words in a text that is cut as a whole, too
_HIDDEN = ("[MASK]", "<mask>", "[UNK]", "<unk>")


class WordTokens(NamedTuple):
    """The tokens of all words.

    Attributes:
        starts: Where the tokens of each word begin, and where those of the last one end.
        prefix: Stands before a word when it is cut, so that its tokens are those that it has in a
            text: a space, or nothing.
    """

    starts: Int64[torch.Tensor, " borders"]
    tokens: Int64[torch.Tensor, " tokens"]
    prefix: str


def tokens_of(words: Sequence[str], tokenizer: Tokenizer) -> WordTokens:
    """Returns the tokens of all words: those that numbers stand for, from 0 on.

    Padding has none, a hidden word the tokenizer's own token for that, or the one for unknown
    words. A million words take some seconds; the last few tables are kept.
    """
    return _tokens_of(tuple(words), tokenizer.to_str())


@lru_cache(maxsize=2)
def _tokens_of(words: tuple[str, ...], tokenizer_json: str) -> WordTokens:
    tokenizer, real = Tokenizer.from_str(tokenizer_json), words[FIRST_WORD:]
    prefix, num_differing, num_tried = choose_prefix(real, tokenizer)
    if num_differing:
        say(
            f"tokenizer: {num_differing:,} of {num_tried:,} tokens of a text are others where words are cut on their own"
        )
    assert (PAD, MASKED) == (0, 1), "in this order"
    counts, tokens = [np.array([0, 1])], [np.array([hidden_token(tokenizer)])]
    for some in _cut(real, prefix, tokenizer):
        counts.append(some[0])
        tokens.append(some[1])
    starts = np.concatenate([[0], np.concatenate(counts).cumsum()])
    return WordTokens(torch.from_numpy(starts), torch.from_numpy(np.concatenate(tokens)), prefix)


def _cut(words: Sequence[str], prefix: str, tokenizer: Tokenizer) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields how many tokens each of some words has, and these tokens, until all words are done."""
    for start in range(0, len(words), _AT_ONCE * _AT_ONCE):
        some = [prefix + word for word in words[start : start + _AT_ONCE * _AT_ONCE]]
        lists = [some[at : at + _AT_ONCE] for at in range(0, len(some), _AT_ONCE)]
        encoded = tokenizer.encode_batch(lists, is_pretokenized=True, add_special_tokens=False)
        for one, of_list in zip(encoded, lists, strict=True):
            places = np.array(one.word_ids, np.int64)
            yield np.bincount(places, minlength=len(of_list)), np.array(one.ids, np.int64)


def choose_prefix(words: Sequence[str], tokenizer: Tokenizer) -> tuple[str, int, int]:
    """Returns the prefix with which most words have the tokens that they have in a text, the number
    of tokens that differ still, and that of all that were tried.
    """
    tried = words[:: max(1, len(words) // _TRIED)]
    if len(tried) < 2:
        return "", 0, 0
    text = tokenizer.encode(" ".join(tried), add_special_tokens=False)
    first = len(tried[0])  # it has nothing before it in the text, as no other has
    whole = Counter(token for token, (_, end) in zip(text.ids, text.offsets, strict=True) if end > first)
    differing = {}
    for prefix in ("", " "):
        own = Counter(token for _, tokens in _cut(tried[1:], prefix, tokenizer) for token in tokens.tolist())
        differing[prefix] = max((whole - own).total(), (own - whole).total())
    best = min(differing, key=lambda prefix: differing[prefix])
    return best, differing[best], whole.total()


def hidden_token(tokenizer: Tokenizer) -> int:
    """Returns the token that stands for a hidden word."""
    found = (tokenizer.token_to_id(name) for name in _HIDDEN)
    return next((int(token) for token in found if token is not None), 0)
