"""Paths that may be patterns with `*`, `?`, `[...]`, `{x,y}` or `{0000..0099}`."""

import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from pipeline.core.errors import SourceError

_WILD = re.compile(r"[*?\[{]")
_BRACE = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


def parted(path: str) -> tuple[Path, str]:
    """Returns the folder that a pattern begins with and the rest; a path without a pattern, and
    empty text.

    A path that exists is a path, whatever its characters, and so is the part of a pattern that
    exists.
    """
    parts = Path(path).parts
    if not _WILD.search(path) or Path(path).exists():
        return Path(path), ""
    num_there = next((count for count in range(len(parts) - 1, 0, -1) if Path(*parts[:count]).is_dir()), 0)
    rest = "/".join(parts[num_there:])
    return (Path(*parts[:num_there]), rest) if _WILD.search(rest) else (Path(path), "")


def is_there(path: str) -> bool:
    """Returns whether a path exists, or the folder that a pattern looks in."""
    folder, rest = parted(path)
    return bool(_WILD.search(rest.split("/")[0])) if rest else folder.exists()


def matching(folder: Path, pattern: str) -> list[Path]:
    """Returns the files in a folder that a pattern stands for; raises SourceError where one with a
    number is missing.
    """
    return [file for one in _braces(pattern) for file in _globbed(folder, one)]


def _globbed(folder: Path, pattern: str) -> list[Path]:
    if _WILD.search(pattern):
        return [folder / name for name in glob(pattern, root_dir=folder)]
    if not (folder / pattern).exists():
        raise SourceError(folder / pattern, "no such file", fix="correct the numbers in `path`, or fetch it")
    return [folder / pattern]


def _braces(pattern: str) -> Iterator[str]:
    """Yields what a shell makes of braces: `a{1..3}` -> a1, a2, a3; `{x,y}b` -> xb, yb."""
    brace = _BRACE.search(pattern)
    if brace is None:
        yield pattern
        return
    first, last, names = brace.groups()
    inner = names.split(",") if names else [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    for part in inner:
        yield from _braces(pattern[: brace.start()] + part + pattern[brace.end() :])
