"""The memory that this machine has, for what would never fit."""

import os
from functools import cache
from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


@cache
def machine_bytes() -> int:
    """Returns the bytes of memory that the machine or the container around this process has."""
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *filter(None, map(_limit, _LIMITS))])


def need_room(num_bytes: int) -> None:
    """Raises ValueError where so many bytes are more than all memory."""
    if num_bytes > (most := machine_bytes()):
        raise ValueError(f"it would take {num_bytes / 1e9:,.1f} GB of memory, and this machine has {most / 1e9:,.1f}")


def _limit(file: str) -> int | None:
    try:
        text = Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() else None
