"""A text cut into words: in one Unicode form, at whatever white space there is."""

from pathlib import Path

from pipeline.core.plain_files import odd_file
from pipeline.core.text import composed
from pipeline.preparation.sources.base import RawImage

MOST_SIGNS = 1000  # of a word: what is longer is no word of a language with spaces
_MOST_BYTES = 64 << 20


class TextError(Exception):
    """An error of a text that can't be taken, and why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def words_of(text: str) -> list[str]:
    """Returns the words of a text: what stands between white space of any kind, each accent and
    its letter as one sign (NFC). Capitals and punctuation stay.

    References:
        Unicode Standard Annex 15, "Unicode Normalization Forms", section 1.2.
    """
    return composed(text).split()


def read_words(raw: RawImage) -> list[str]:
    """Returns the words of a text as it came.

    Raises TextError where it is none, or has no words.
    """
    words = words_of(_text(raw))
    if not words:
        raise TextError("no words in it")
    if longest := next((word for word in words if len(word) > MOST_SIGNS), ""):
        found = f"{len(longest):,} characters without a space ({longest[:20]!r}...)"
        raise TextError(f"{found}, of at most {MOST_SIGNS:,}; cut texts without spaces into words first")
    return words


def _text(raw: RawImage) -> str:
    content = raw.content
    if isinstance(content, Path):
        content = _bytes(content)
    if isinstance(content, bytes):
        try:
            content = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise TextError(f"not UTF-8 text (byte {error.start:,} is {content[error.start]:#04x})") from None
    if not isinstance(content, str):
        raise TextError("no text" if content is None else f"a {type(content).__name__}, and no text")
    if "\0" in content:
        raise TextError(f"a NUL at character {content.index(chr(0)):,}: no text")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise TextError(f"half of a sign at character {error.start:,}") from None
    return content


def _bytes(path: Path) -> bytes:
    if odd := odd_file(path, _MOST_BYTES):
        raise TextError(odd)
    try:
        return path.read_bytes()
    except OSError as error:
        raise TextError(f"can't be read ({error.strerror})") from None
