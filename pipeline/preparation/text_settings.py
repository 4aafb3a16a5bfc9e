"""The key `text` of the section `prepare`: how long a text may be, and its tokenizer."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError

TRAINED = ("bpe", "wordpiece")
_USUAL_TOKENS = 8000


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TextSettings:
    """The form of texts.

    Attributes:
        max_words: Of a text; further ones are cut off.
        tokenizer: `bpe` or `wordpiece`, which are trained on the training split, or the path of a
            tokenizer.json.
        vocabulary: The tokens of a trained one; None: 8,000.
        lowercase: Whether a trained one sees small letters alone.
    """

    max_words: Annotated[int, Field(ge=1, le=1 << 16)] = 512
    tokenizer: str = "bpe"
    vocabulary: Annotated[int, Field(ge=300, le=1_000_000)] | None = None
    lowercase: bool = False

    @property
    def is_trained(self) -> bool:
        """Whether the tokenizer is trained here."""
        return self.tokenizer in TRAINED

    @property
    def num_tokens(self) -> int:
        """The most tokens that a trained tokenizer may have."""
        return self.vocabulary or _USUAL_TOKENS

    def check(self, where: str) -> None:
        """Raises ConfigError where there is no such tokenizer, or settings of training come with
        one that is trained.
        """
        if self.is_trained:
            return
        if not Path(self.tokenizer).is_file():
            expected = f"{', '.join(TRAINED)}, or the path of a tokenizer.json"
            raise ConfigError(f"{where}.tokenizer", f"{self.tokenizer!r}: no such file", expected=expected)
        for key, given in (("vocabulary", self.vocabulary is not None), ("lowercase", self.lowercase)):
            if given:
                found = "given beside a tokenizer.json, which has its own"
                raise ConfigError(f"{where}.{key}", found, fix="leave it out")
