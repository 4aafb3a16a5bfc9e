"""Bytes on disk of what is there, whether DVC keeps a second copy of it, and full disks."""

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


def keeps_second_copy(top: Path) -> bool:
    """Returns whether DVC's cache keeps a copy of an output that takes disk space of its own.

    The project's DVC settings decide it: where files are linked, an output and its copy are one.
    Few file systems have reflinks, which DVC tries first.
    """
    settings = configparser.ConfigParser()
    settings.read([top / ".dvc/config", top / ".dvc/config.local"])
    kinds = settings.get("cache", "type", fallback="reflink,copy").strip("'\" ").replace(" ", "").split(",")
    return not {"hardlink", "symlink"} & set(kinds)
