"""The files of a source's path, and the split that a file's name names."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import SourceError, suggest
from pipeline.preparation.sources.notes import Notes
from pipeline.preparation.sources.patterns import matching, parted
from pipeline.preparation.sources.split_names import SPLITS, USUAL, splits_in
from pipeline.preparation.sources.walking import files_below


def find_files(path: str, suffixes: Sequence[str], notes: Notes | None = None) -> tuple[Path, list[tuple[str, Path]]]:
    """Returns the folder that keys are relative to, and the files with their splits: training
    first, then by name.

    `path` is a file, a folder (searched with all below it), or a pattern with `*` or
    `{0000..0099}`. The split is a word of the file's name or of a folder's; if no file has such a
    word, all are for training. Files of a folder that end in none of the suffixes are noted.

    Raises:
        SourceError: There is no file, a numbered one is missing, or a split is not clear.
    """
    root, pattern = parted(path)
    if pattern:
        files = matching(root, pattern)
    elif root.is_dir():
        files = _ending(root, suffixes, notes or Notes())
    elif root.exists():
        root, files = root.parent, [root]
    else:
        raise SourceError(path, "no such file or folder")
    if not files:
        raise SourceError(path, "no files", expected=f"some that end in {' or '.join(suffixes)}")
    return root, _with_splits(sorted(set(files)), root)


def _ending(root: Path, suffixes: Sequence[str], notes: Notes) -> list[Path]:
    files, expected = [], " or ".join(suffixes)
    for name in files_below(root):
        if name.lower().endswith(tuple(suffixes)):
            files.append(root / name)
        else:
            notes.add(f"files left out: none that ends in {expected} ({Path(name).suffix or 'no suffix'})", name)
    return files


def _with_splits(files: list[Path], root: Path) -> list[tuple[str, Path]]:
    found = [(_named_split(file.relative_to(root), file), file) for file in files]
    if not any(split for split, _ in found):
        return [("train", file) for file in files]
    for split, file in found:
        if not split:
            raise SourceError(file, "unknown split", expected=f"in its name {suggest('', USUAL)}")
    return sorted(found, key=lambda pair: SPLITS.index(pair[0]))


def _named_split(name: Path, where: object) -> str:
    """Returns the split that a word of the path names; empty text when none does."""
    for part in reversed(name.parts):  # the file's own name comes first
        if len(named := splits_in(part)) > 1:
            raise SourceError(where, f"its name has {' and '.join(sorted(named))}", expected="one split")
        if named:
            return named.pop()
    return ""
