"""Image files: known by their suffix, or else by their first bytes."""

from pathlib import Path

from pipeline.core.plain_files import odd_file
from pipeline.data.formats import HEAD_BYTES, PREVIEW_SUFFIXES, is_image_name, is_read, kind_named

# Not opened to look at their first bytes: there may be one beside each image. Copies would be
# images twice.
_NO_IMAGES = frozenset({
    *(".txt", ".md", ".rst", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".csv", ".tsv", ".html", ".log", ".cls"),
    *(".py", ".ipynb", ".sh", ".m", ".mat", ".npy", ".npz", ".h5", ".pkl", ".pt", ".db", ".ini", ".parquet", ".lnk"),
    *(".zip", ".tar", ".gz", ".tgz", ".rar", ".7z", ".mp4", ".avi", ".mov", ".url"),
    *(".bak", ".orig", ".old", ".tmp", ".part", ".partial", ".crdownload", ".download"),
})  # fmt: skip


def no_image(folder: Path, name: str) -> str | None:
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
