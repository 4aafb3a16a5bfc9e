"""A tokenizer in a file; nothing but texts imports this, and with it the library."""

from pathlib import Path

from tokenizers import Tokenizer

from pipeline.core.errors import ModelError


def read_tokenizer(path: Path) -> Tokenizer:
    """Returns the tokenizer in a `tokenizer.json`; raises ModelError where it is none."""
    if not path.is_file():
        raise ModelError(path, "no such file", expected="a tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises its own base class
        raise ModelError(path, f"not a tokenizer ({error})", expected="a tokenizer.json") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
