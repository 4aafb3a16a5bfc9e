"""A file that was probably meant by a path that leads nowhere."""

import os
from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize
from urllib.parse import unquote, urlsplit


def near_miss(root: Path, name: str) -> Path | None:
    """Returns the file below `root`, or elsewhere, that a path relative to `root` probably means.

    Looked for are blanks around it, backslashes, `%20` and the like, `~`, capitals, another suffix
    or none, accents typed otherwise, and folders in front that are not here.
    """
    for path in _candidates(root, name):
        if found := _there(path):
            return found
    return None


def _candidates(root: Path, name: str) -> Iterator[Path]:
    """Yields paths that may be meant, the likeliest first."""
    plain = unquote(urlsplit(name).path) if name.startswith("file:") else name
    for text in dict.fromkeys((plain.strip(), plain.strip().replace("\\", "/"), unquote(plain).strip())):
        if not text or "\0" in text:
            continue
        path = Path(text)
        yield path.expanduser() if text.startswith("~/") else root / path
        # 1. The same below this root, as where the table was made on another machine.
        parts = [part for part in path.parts if part != path.anchor and not part.endswith(":")]
        yield from (root.joinpath(*parts[start:]) for start in range(len(parts)))
        # 2. The table lies in the folder of images, and its paths begin above.
        yield root.parent / text


def _there(path: Path) -> Path | None:
    """Returns the path if it is a file, or else the one file in its folder whose name differs
    little.
    """
    try:
        if path.is_file():
            return path
        names = sorted(entry.name for entry in os.scandir(path.parent) if entry.is_file())
    except (OSError, ValueError):
        return None
    for same in (_alike, _stem):
        if near := [name for name in names if same(name) == same(path.name)]:
            return path.with_name(near[0])
    return None


def _alike(name: str) -> str:
    return normalize("NFC", name).casefold().strip()


def _stem(name: str) -> str:
    """Returns a name without the suffix of an image file."""
    stem, dot, suffix = _alike(name).rpartition(".")
    return stem if dot and 1 < len(suffix) <= 4 else _alike(name)
