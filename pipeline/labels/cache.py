"""The folder of what was fetched or unpacked: a mirror for each store. All of it may be deleted at
any time.

A mirror's name is made of the store's place and of its description, so that a store that was
replaced gets another mirror.
"""

import hashlib
import os
import re
from pathlib import Path

from pipeline.core.arrays import DESCRIPTION
from pipeline.core.files import write_bytes


def cache_folder() -> Path:
    """Returns the folder of all mirrors: `$POTSTILL_CACHE`, or `potstill` in the user's cache
    folder.
    """
    if own := os.environ.get("POTSTILL_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "potstill"


def begin_mirror(place: str, description: bytes) -> Path:
    """Returns the folder of a store's mirror, which has its description at least."""
    name = re.sub(r"[^\w.-]", "_", place.rpartition("/")[2])[-80:]
    folder = cache_folder() / f"{name}-{sha256(f'{place} {sha256(description)}'.encode())[:32]}"
    file = folder / DESCRIPTION
    if not file.exists() or file.read_bytes() != description:
        write_bytes(file, description)
    return folder


def lock_of(mirror: Path) -> Path:
    """Returns the file whose lock a process holds while it fetches files of a mirror."""
    return mirror.with_name(f"{mirror.name}.lock")


def is_there(file: Path) -> bool:
    """Returns whether a mirror has a file; none of a store's is empty."""
    return file.exists() and file.stat().st_size > 0


def sha256(content: bytes) -> str:
    """Returns the 64 hex digits of some bytes."""
    return hashlib.sha256(content).hexdigest()
