"""The files in and below a folder, those behind links included, without clutter."""

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import SourceError
from pipeline.data.formats import is_image_name
from pipeline.preparation.sources.clutter import is_clutter, is_passed_over


def files_below(folder: Path, hidden: list[str] | None = None) -> Iterator[str]:
    """Yields the files in and below a folder by their paths relative to it.

    Clutter is passed over, and so are hidden files and folders; `hidden` takes the names of those
    that are no known clutter.

    Raises SourceError for a link that leads nowhere or in a circle.
    """
    # A folder that waits is held with the real paths of those above it: a link to one of these
    # never ends.
    waiting = [("", frozenset({os.path.realpath(folder)}))]
    while waiting:
        inside, above = waiting.pop()
        for name, is_folder in listed(folder / inside, hidden):
            if is_folder:
                place = os.path.realpath(folder / inside / name)
                if place in above:
                    raise SourceError(folder / inside / name, "a link to a folder that it is in", fix="delete the link")
                waiting.append((f"{inside}{name}/", above | {place}))
            else:
                yield inside + name


def listed(folder: Path, hidden: list[str] | None = None) -> Iterator[tuple[str, bool]]:
    """Yields the names in a folder, as they come, and whether each is a folder or a link to one."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_passed_over(entry.name):
                    yield entry.name, _is_folder(entry)
                elif hidden is not None and not is_clutter(entry.name):
                    hidden.append(entry.name)
    except OSError as error:
        raise SourceError(error.filename or folder, f"can't be read ({error.strerror})") from None


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Returns whether an entry is a folder or a link to one.

    A link to nowhere may have been a folder of images, so it is refused; one that has an image's
    name is an image that can't be read.
    """
    if entry.is_dir():
        return True
    if entry.is_symlink() and not is_image_name(entry.name) and not os.path.exists(entry.path):
        found = f"a link to nowhere ({os.readlink(entry.path)})"
        raise SourceError(entry.path, found, fix="delete it, or bring back what it leads to")
    return False
