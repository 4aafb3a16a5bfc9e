"""Bytes on disk of what is there, and how many copies of it there are."""

import configparser
import os
from pathlib import Path


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
