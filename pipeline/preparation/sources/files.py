"""The files of a source's path, and the split that a file's name names."""

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import SourceError, suggest
from pipeline.data.dataset import SPLITS
from pipeline.preparation.sources.patterns import matching, parted
from pipeline.preparation.sources.walking import files_below

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_WORDS = SPLIT_NAMES | {"t10k": "test"}  # as MNIST has it


def split_named(name: str, where: object) -> str:
    """Returns the split that a name stands for, in capitals or not; raises SourceError when it is
    none.
    """
    if name.lower() not in SPLIT_NAMES:
        raise SourceError(where, f"unknown split name {name!r}", expected=suggest(name.lower(), list(SPLIT_NAMES)))
    return SPLIT_NAMES[name.lower()]


def find_files(path: str, suffixes: Sequence[str]) -> tuple[Path, list[tuple[str, Path]]]:
    """Returns the folder that keys are relative to, and the files with their splits: training
    first, then by name.

    `path` is a file, a folder (searched with all below it), or a pattern with `*` or
    `{0000..0099}`. The split is a word of the file's name or of a folder's; if no file has such a
    word, all are for training.

    Raises:
        SourceError: There is no file, a numbered one is missing, or a split is not clear.
    """
    root, pattern = parted(path)
    if pattern:
        files = matching(root, pattern)
    elif root.is_dir():
        files = [root / name for name in files_below(root) if name.lower().endswith(tuple(suffixes))]
    elif root.exists():
        root, files = root.parent, [root]
    else:
        raise SourceError(path, "no such file or folder")
    if not files:
        raise SourceError(path, "no files", expected=f"some that end in {' or '.join(suffixes)}")
    return root, _with_splits(sorted(set(files)), root)


def _with_splits(files: list[Path], root: Path) -> list[tuple[str, Path]]:
    found = [(_named_split(file.relative_to(root), file), file) for file in files]
    if not any(split for split, _ in found):
        return [("train", file) for file in files]
    for split, file in found:
        if not split:
            raise SourceError(file, "unknown split", expected=f"in its name {suggest('', list(SPLIT_NAMES))}")
    return sorted(found, key=lambda pair: SPLITS.index(pair[0]))


def _named_split(name: Path, where: object) -> str:
    """Returns the split that a word of the path names; empty text when none does."""
    for part in reversed(name.parts):  # the file's own name comes first
        words = {word.rstrip("0123456789") for word in re.split(r"[^a-z0-9]+", part.lower())}
        if len(named := {_WORDS[word] for word in words & set(_WORDS)}) > 1:
            raise SourceError(where, f"its name has {' and '.join(sorted(named))}", expected="one split")
        if named:
            return named.pop()
    return ""
