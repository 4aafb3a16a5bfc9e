"""Bytes on disk of what is there, and whether DVC keeps a second copy of it."""

import configparser
import os
from pathlib import Path


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
