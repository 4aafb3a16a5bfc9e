"""Operations on the words of a text: a window of a long one, words left out, hidden or swapped.

They see words and no tokens, so that teacher and student see one view, each with its own tokenizer.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Int32, Int64
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.core.seeding import philox
from pipeline.data.input_kinds import MASKED, PAD, InputKindName
from pipeline.views.operations.base import SampleOperation, happens

_Share = Annotated[float, Field(ge=0, le=1)]


class WordOperation(SampleOperation):
    """An operation on one text. Padding stays behind the last word."""

    input_kind: ClassVar[InputKindName] = "tokens"

    @abstractmethod
    def apply(
        self, texts: Int32[torch.Tensor, "batch words"], draws: Int64[torch.Tensor, "batch columns"]
    ) -> Int32[torch.Tensor, "batch words"]:
        """Returns the changed texts; `draws` are on their device."""


class _EachWord(WordOperation):
    """An operation that happens to some words, each by chance: `share` of them on average.

    Two drawn words are the key of a text, and a word's place is the counter below it: so a chance
    depends on nothing else.
    """

    share: float

    num_words = 3

    @property
    def still(self) -> tuple[int, ...]:
        return (0, 0, 0, 0)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns 1, the key of a text, and a further word."""
        return torch.stack([torch.ones_like(words[0]), *words[:3]], dim=1)

    def chosen(self, draws: Int64[torch.Tensor, "batch 4"], count: int) -> Bool[torch.Tensor, "batch count"]:
        """Returns at which places it happens."""
        places = torch.arange(-(-count // 4), device=draws.device).expand(len(draws), -1)
        high, low = (draws[:, column, None].expand_as(places) for column in (1, 2))
        four = torch.stack(philox(0, (high, low, places, torch.zeros_like(places))), dim=2)
        return happens(four.flatten(1)[:, :count], self.share) & draws[:, :1].bool()


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WindowWords(WordOperation):
    """A window of so many words of a longer text, from a random place on; a shorter one stays
    whole.
    """

    kind: Literal["window_words"] = "window_words"
    words: Annotated[int, Field(ge=1, le=1 << 16)]

    num_words = 1

    @property
    def still(self) -> tuple[int, ...]:
        return (0, 0)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.ones_like(words[0]), words[0]], dim=1)

    def apply(self, texts: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        lengths = (texts != PAD).sum(dim=1)
        room = (lengths - self.words).clamp(min=0)
        starts = (draws[:, 1] * (room + 1)) >> 32
        places = torch.arange(texts.shape[1], device=texts.device)
        moved = (places + starts[:, None]).clamp(max=texts.shape[1] - 1)
        windows = texts.gather(1, moved).masked_fill(places >= self.words, PAD)
        return torch.where((draws[:, :1] > 0) & (room > 0)[:, None], windows, texts)

    def check(self, input_shape: Sequence[int], where: str) -> None:
        """Raises ConfigError where texts are never longer than a window."""
        (most,) = input_shape
        if self.words >= most:
            found = f"{self.words}, and texts have at most {most} words"
            raise ConfigError(f"{where}.words", found, expected=f"fewer than {most}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DropWords(_EachWord):
    """A text without some of its words; the others move up, and one is always left.

    References:
        Jason Wei, Kai Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
        Classification Tasks", 2019, arXiv 1901.11196, section 2 (random deletion).
    """

    kind: Literal["drop_words"] = "drop_words"
    share: _Share

    def apply(self, texts: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        are_words = texts != PAD
        kept = are_words & ~self.chosen(draws, texts.shape[1])
        kept[:, 0] |= ~kept.any(dim=1)
        order = torch.argsort((~kept).to(torch.uint8), dim=1, stable=True)
        places = torch.arange(texts.shape[1], device=texts.device)
        return texts.gather(1, order).masked_fill(places >= kept.sum(dim=1, keepdim=True), PAD)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MaskWords(_EachWord):
    """A text with some of its words hidden: a network sees its tokenizer's token for that.

    References:
        Jacob Devlin, Ming-Wei Chang, Kenton Lee, Kristina Toutanova, "BERT: Pre-training of Deep
        Bidirectional Transformers for Language Understanding", 2018, arXiv 1810.04805, section 3.1.
    """

    kind: Literal["mask_words"] = "mask_words"
    share: _Share

    def apply(self, texts: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return texts.masked_fill((texts != PAD) & self.chosen(draws, texts.shape[1]), MASKED)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SwapWords(_EachWord):
    """A text with some neighbours swapped. Words are paired from the first or the second one on,
    by chance, and `share` of the pairs are turned round.
    """

    kind: Literal["swap_words"] = "swap_words"
    share: _Share

    def apply(self, texts: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        most = texts.shape[1]
        lengths = (texts != PAD).sum(dim=1, keepdim=True)
        places = torch.arange(most, device=texts.device).expand(len(texts), -1)
        first = draws[:, 3:] & 1
        partners = ((places + first) ^ 1) - first
        turned = self.chosen(draws, most // 2 + 1).gather(1, (places + first) >> 1)
        both = (torch.maximum(places, partners) < lengths) & (partners >= 0)
        return texts.gather(1, torch.where(turned & both, partners, places))
