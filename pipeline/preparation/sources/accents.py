"""Paths whose accents are typed in one way and lie on the disk in the other."""

from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize


def as_on_disk(path: Path) -> Path:
    """Returns the path as it is on the disk, each part with its accents composed or apart.

    Parts that are in neither form, as those of a pattern, stay as they are.
    """
    if str(path).isascii() or path == path.parent:
        return path
    return next(_forms_of(path), None) or as_on_disk(path.parent) / path.name


def _forms_of(path: Path) -> Iterator[Path]:
    """Yields the forms in which a path exists; one folder may be there in both."""
    if path.exists():
        yield path
    if str(path).isascii() or path == path.parent:
        return
    names = dict.fromkeys(normalize(form, path.name) for form in ("NFC", "NFD"))
    yield from (found for above in _forms_of(path.parent) for name in names if (found := above / name).exists())
