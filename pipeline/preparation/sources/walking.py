"""The files in and below a folder, those behind links included, without clutter."""

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.core.errors import SourceError
from pipeline.data.formats import is_image_name
from pipeline.preparation.sources.clutter import is_clutter


def files_below(
    folder: Path, leave_out: Sequence[str] = (), passed_over: list[tuple[str, str]] | None = None
) -> Iterator[str]:
    """Yields the files in and below a folder by their paths relative to it.

    Raises SourceError for a link that leads nowhere or in a circle.

    Args:
        leave_out: Names of files and folders that are passed over, or patterns of names.
        passed_over: A list that takes what was passed over, clutter apart: a remark and the path.
    """
    # A folder that waits is held with the real paths of those above it: a link to one of these
    # never ends.
    waiting = [("", frozenset({os.path.realpath(folder)}))]
    while waiting:
        inside, above = waiting.pop()
        for name, is_folder in listed(folder / inside, hidden=True):
            if remark := passed_over_as(name, leave_out, is_folder=is_folder):
                if passed_over is not None:
                    passed_over.append((remark, inside + name))
            elif is_folder:
                place = os.path.realpath(folder / inside / name)
                if place in above:
                    raise SourceError(folder / inside / name, "a link to a folder that it is in", fix="delete the link")
                waiting.append((f"{inside}{name}/", above | {place}))
            else:
                yield inside + name


def listed(folder: Path, *, hidden: bool = False) -> Iterator[tuple[str, bool]]:
    """Yields the names in a folder, as they come, and whether each is a folder or a link to one.

    Clutter is passed over, and so are hidden names unless they are asked for.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_clutter(entry.name) and (hidden or not entry.name.startswith(".")):
                    yield entry.name, _is_folder(entry)
    except OSError as error:
        raise SourceError(error.filename or folder, f"can't be read ({error.strerror})") from None


def passed_over_as(name: str, leave_out: Sequence[str], *, is_folder: bool) -> str | None:
    """Returns a remark about a name that is passed over, with the reason; None where it is not."""
    what = "folders" if is_folder else "files"
    if name.startswith("."):
        return f"{what} left out: hidden"
    for one in leave_out:
        if fnmatchcase(name, one):
            return f"{what} left out: {left_out_by(one)}"
    return None


def left_out_by(pattern: str) -> str:
    """Returns the reason of what a pattern of `leave_out` passes over."""
    return f"leave_out: {pattern}"


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Returns whether an entry is a folder or a link to one.

    A link to nowhere may have been a folder of images, so it is refused; one that has an image's
    name is an image that can't be read.
    """
    if entry.is_dir():
        return True
    if not entry.is_symlink():
        return False
    path = Path(entry.path)
    if not path.exists() and not path.name.startswith(".") and not is_image_name(path.name):
        found = f"a link to nowhere ({path.readlink()})"
        raise SourceError(path, found, fix="delete it, or bring back what it leads to")
    return False
