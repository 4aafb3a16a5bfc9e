"""The image files in and below a folder: by their suffix, or else by their first bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.core.plain_files import odd_file
from pipeline.data.formats import HEAD_BYTES, PREVIEW_SUFFIXES, is_image_name, is_read, kind_named
from pipeline.preparation.sources.walking import files_below, passed_over_as

# Not opened to look at their first bytes: there may be one beside each image. Copies would be
# images twice.
_NO_IMAGES = frozenset({
    *(".txt", ".md", ".rst", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".csv", ".tsv", ".html", ".log", ".cls"),
    *(".py", ".ipynb", ".sh", ".m", ".mat", ".npy", ".npz", ".h5", ".pkl", ".pt", ".db", ".ini", ".parquet", ".lnk"),
    *(".zip", ".tar", ".gz", ".tgz", ".rar", ".7z", ".mp4", ".avi", ".mov", ".url"),
    *(".bak", ".orig", ".old", ".tmp", ".part", ".partial", ".crdownload", ".download"),
})  # fmt: skip


class ImageFiles(NamedTuple):
    """The images at and below a folder as sorted paths relative to it, and what is left out, each
    with a remark.
    """

    names: list[str]
    left_out: list[tuple[str, str]]


def image_files(folder: Path, leave_out: Sequence[str] = ()) -> ImageFiles:
    """Returns the image files.

    Raises SourceError for a link that leads nowhere or in a circle.

    Args:
        leave_out: Names of files and folders that are passed over, or patterns of names.
    """
    found = ImageFiles([], [])
    passed_over: list[tuple[str, str]] = []
    for name in files_below(folder, leave_out, passed_over):
        if remark := _no_image(folder, name):
            found.left_out.append((remark, name))
        else:
            found.names.append(name)
    found.names.sort()
    found.left_out.extend(passed_over)
    return found


def left_out_as(folder: Path, name: str, leave_out: Sequence[str], *, is_folder: bool) -> str | None:
    """Returns a remark about what is left out; None for an image, or a folder to look into."""
    return passed_over_as(name, leave_out, is_folder=is_folder) or (None if is_folder else _no_image(folder, name))


def _no_image(folder: Path, name: str) -> str | None:
    reason = _why_not(folder, name)
    return f"files left out: {reason}" if reason else None


def _why_not(folder: Path, name: str) -> str | None:
    """Returns the reason why a file is not taken; None where it is an image."""
    if is_image_name(name):
        return None
    path = folder / name
    if odd := odd_file(path):
        return odd
    suffix = path.suffix.lower()
    if suffix in _NO_IMAGES or name.endswith("~"):
        return f"no image by its name ({suffix or '~'})"
    if suffix in PREVIEW_SUFFIXES:
        return f"of a camera or a microscope, which is not read; convert it to PNG or JPEG ({suffix})"
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        return f"can't be read ({error.strerror})"
    if is_read(head):
        return None
    return f"{kind_named(head) or 'no image by its content'} ({suffix or 'no suffix'})"
