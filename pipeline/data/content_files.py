"""Files beside a data set of texts: the things that its inputs stand for.

```
words.txt         the words that numbers stand for, one a line, from FIRST_WORD on, in the order of
                  their characters
tokenizer.json    the tokenizer of networks that have none of their own
```
"""

from pathlib import Path

from pipeline.core.errors import DataError, repaired
from pipeline.core.files import fingerprint, write_bytes
from pipeline.data.content import Content
from pipeline.data.input_kinds import FIRST_WORD
from pipeline.data.manifest import DatasetManifest

WORDS, TOKENIZER = "words.txt", "tokenizer.json"
_FIX = repaired("prepare")
_NO_WORDS = ("",) * FIRST_WORD


def read_content(folder: Path, manifest: DatasetManifest) -> Content:
    """Returns what inputs stand for.

    Raises DataError where the words of texts are lost, or are not those of the manifest.
    """
    facts = manifest.input or {}
    if manifest.kind.name != "tokens":
        return Content(manifest.kind, detail_of(facts))
    return Content(manifest.kind, words=read_content_words(folder / WORDS, facts["words"]))


def detail_of(facts: dict[str, object]) -> str:
    """Returns what decides what the numbers of sounds and rows mean, as text."""
    return {"waveform": str(facts.get("rate_hz")), "row": str(facts.get("columns_digest"))}.get(
        str(facts.get("kind")), ""
    )


def read_content_words(path: Path, digest: str) -> tuple[str, ...]:
    """Returns the words that numbers stand for, from 0 on; raises what `read_words` raises."""
    return (*_NO_WORDS, *read_words(path, digest))


def read_words(path: Path, digest: str) -> list[str]:
    """Returns the words in a file; raises DataError where it is lost or another one."""
    try:
        words = path.read_text("utf-8").split("\n")[:-1]
    except FileNotFoundError:
        raise DataError(path, "no such file", fix=_FIX) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"can't be read ({error})", fix=_FIX) from None
    if words_digest(words) != digest:
        raise DataError(path, "has other words", expected=f"those of the fingerprint {digest}", fix=_FIX)
    return words


def write_words(path: Path, words: list[str]) -> str:
    """Writes words, one a line, and returns their fingerprint."""
    assert not any("\n" in word for word in words), "a word has no line break"
    write_bytes(path, "".join(f"{word}\n" for word in words).encode("utf-8"))
    return words_digest(words)


def words_digest(words: list[str]) -> str:
    """Returns the fingerprint of a list of words."""
    return fingerprint(words)
