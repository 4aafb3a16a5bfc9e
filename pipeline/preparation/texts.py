"""A look at texts, and the form that they are made into: the numbers of their words.

Every word of the data set has a number, in the order of characters: that is a numbering and no
statistics, so words of all splits have one. The tokenizer is trained on the training split alone.
"""

import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.core.errors import ConfigError, DataError
from pipeline.core.files import file_fingerprint, write_bytes
from pipeline.core.progress import progress
from pipeline.data.content import Content
from pipeline.data.content_files import TOKENIZER, WORDS, write_words
from pipeline.data.images import Storage
from pipeline.data.input_kinds import FIRST_WORD, PAD, TOKENS, InputKind
from pipeline.preparation.form import Form, Look
from pipeline.preparation.made import Broken, Made
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.text_settings import TextSettings
from pipeline.preparation.words import TextError, read_words

if TYPE_CHECKING:
    from pipeline.preparation.settings import Prepare

_NO_LIBRARY = "install the extra `text` (`pip install -c constraints.txt .[text]`)"


@dataclass(frozen=True)
class TextForm(Form):
    """The form of texts.

    Attributes:
        words: All words, in the order of their numbers, from FIRST_WORD on.
        num_cut: The texts that have more words than are kept.
    """

    settings: TextSettings
    words: tuple[str, ...]
    num_cut: int = 0
    storage: Storage = "pixels"

    kind: ClassVar[InputKind] = TOKENS

    @cached_property
    def content(self) -> Content:
        """The words that numbers stand for."""
        return Content(TOKENS, words=("",) * FIRST_WORD + self.words)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, start=FIRST_WORD)}

    def make(self, raw: RawImage) -> Made | Broken:
        try:
            words = read_words(raw)[: self.settings.max_words]
        except TextError as error:
            return Broken(raw.key, error.reason)
        numbers = np.full(self.settings.max_words, PAD, TOKENS.dtype)
        numbers[: len(words)] = [self._numbers[word] for word in words]
        stored = numbers.tobytes()
        (sample_id,) = self.content.ids(numbers[None]).tolist()
        return Made(raw.split, raw.label, raw.key, numbers.shape, sample_id, stored, zlib.crc32(stored), None)

    def facts(self, folder: Path, train: Iterator[np.ndarray]) -> dict[str, Any]:
        """Returns the facts about texts, and writes `words.txt` and `tokenizer.json`."""
        digest = write_words(folder / WORDS, list(self.words))
        path = folder / TOKENIZER
        self._write_tokenizer(path, train)
        return {
            "kind": self.kind.name,
            "words": digest,
            "num_words": len(self.words),
            "tokenizer": file_fingerprint(path),
        }

    def _write_tokenizer(self, path: Path, train: Iterator[np.ndarray]) -> None:
        if not self.settings.is_trained:
            path.write_bytes(Path(self.settings.tokenizer).read_bytes())
            return
        from pipeline.preparation.tokenizer_training import trained  # with the library, which images do without

        tokenizer = trained((text for piece in train for text in self._texts(piece)), self.settings)
        write_bytes(path, tokenizer.to_str(pretty=True).encode())

    def _texts(self, piece: np.ndarray) -> Iterator[str]:
        words = self.content.words
        for row in piece.tolist():
            yield " ".join(words[number] for number in row if number >= FIRST_WORD)


@dataclass
class TextLook(Look):
    """The texts that were looked at.

    Attributes:
        lengths: The words of each.
    """

    lengths: list[int] = field(default_factory=list)

    def add(self, raw: RawImage) -> None:
        with suppress(TextError):
            self.lengths.append(len(read_words(raw)))

    def decided(self, settings: "Prepare", source: Source, raw: Path) -> TextForm:
        """Returns the form: with the words of all texts, which are read for that.

        Raises ConfigError or ModelError where the tokenizer can't be had.
        """
        of_text = settings.text or TextSettings()
        check_tokenizer(of_text, "prepare.text")
        words: set[str] = set()
        num_cut = 0
        with progress("prepare, words", source.count(raw), TOKENS.thing) as on_texts:
            for text in source.images(raw):
                with suppress(TextError):  # its reader reports it
                    found = read_words(text)
                    num_cut += len(found) > of_text.max_words
                    words.update(found[: of_text.max_words])
                on_texts(1)
        if not words:
            raise DataError(f"source {source.kind!r}", "no text has a word", expected="texts")
        return TextForm(of_text, tuple(sorted(words)), num_cut)

    def lines(self, form: TextForm) -> list[str]:
        settings = form.settings
        found = "none is whole"
        if self.lengths:
            spread = f"{min(self.lengths):,} to {max(self.lengths):,} words"
            found = f"{spread}, half of them at most {int(median(self.lengths)):,}"
        looked_at = f"texts: {len(self.lengths):,} were looked at: {found}"
        cut = (
            f"{form.num_cut:,} of all have more than {settings.max_words:,} words and are cut (prepare.text.max_words)"
        )
        made = f"{settings.tokenizer}, up to {settings.num_tokens:,} tokens, trained on the training split"
        return [
            f"{looked_at}; {cut}" if form.num_cut else looked_at,
            f"words: {len(form.words):,} different ones; tokenizer: {made if settings.is_trained else settings.tokenizer}",
        ]


def check_tokenizer(settings: TextSettings, where: str) -> None:
    """Raises ConfigError where there is no library of tokenizers, or no such tokenizer."""
    settings.check(where)
    try:
        from pipeline.data.tokenizer_file import read_tokenizer
    except ImportError as error:
        raise ConfigError(where, f"tokenizers can't be imported ({error})", fix=_NO_LIBRARY) from None
    if not settings.is_trained:
        read_tokenizer(Path(settings.tokenizer))
