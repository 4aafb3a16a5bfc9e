"""Bytes on disk of what is there, how many copies of it there are, and full disks."""

import configparser
import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import PipelineError

_FULL = (errno.ENOSPC, errno.EDQUOT)


class FullDiskError(PipelineError):
    """An error that the disk for temporary files is full."""


@contextmanager
def full_disk_named() -> Iterator[None]:
    """Raises FullDiskError in place of an error of the system's that names no disk: the check-up
    writes to that for temporary files alone.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        fix = "set TMPDIR to a folder on a larger disk; what needs it is left out here"
        raise FullDiskError(f"{tempfile.gettempdir()} (TMPDIR)", f"{error.strerror}", fix=fix) from None


def tree_bytes(folder: Path) -> int:
    """Returns the bytes of all files at and below a folder."""
    return sum(Path(here, name).lstat().st_size for here, _, names in os.walk(folder) for name in names)


def count_copies(top: Path) -> int:
    """Returns how many times an output takes disk space: itself, in DVC's cache and in `work`.

    The project's DVC settings decide it. Where hard links come first, the three are one file. DVC
    tries the kinds of links in their order, and few file systems have reflinks: where these come
    before hard links, DVC has made a copy for its cache before it links the output to that.
    """
    settings = configparser.ConfigParser()
    settings.read([top / ".dvc/config", top / ".dvc/config.local"])
    kinds = settings.get("cache", "type", fallback="reflink,copy").strip("'\" ").replace(" ", "").split(",")
    if kinds[0] == "hardlink":
        return 1
    return 2 if {"hardlink", "symlink"} & set(kinds) else 3
