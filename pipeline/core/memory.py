"""The memory that this machine has, for what would never fit, and what of it is free."""

import os
from functools import cache
from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container
_GROUPS = Path("/proc/self/cgroup")
_MEMINFO = Path("/proc/meminfo")
_ROOT = Path("/sys/fs/cgroup")
_FILE_PAGES = ("inactive_file", "active_file")  # of memory.stat: given back whenever it is needed


@cache
def machine_bytes() -> int:
    """Returns the bytes of memory that the machine or the container around this process has."""
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *filter(None, map(_limit, _LIMITS))])


def free_bytes() -> int:
    """Returns the bytes that this process can still take without taking them from others.

    That is what the kernel can give, or less in a control group (version 1 or 2), whose limit this
    process shares with others of the group, and which may lie in others.
    """
    return max(0, min([_available(), *(_left(*group) for group in _control_groups())]))


def need_room(num_bytes: int) -> None:
    """Raises ValueError where so many bytes are more than all memory."""
    if num_bytes > (most := machine_bytes()):
        raise ValueError(f"it would take {num_bytes / 1e9:,.1f} GB of memory, and this machine has {most / 1e9:,.1f}")


def _available() -> int:
    """Returns what the kernel can give; without its file, all memory."""
    for line in _text(_MEMINFO).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return machine_bytes()


def _control_groups() -> list[tuple[Path, str, str]]:
    """Returns the folders of the process's groups and those around them, each with the names of
    the files of its limit and of its usage.
    """
    found = []
    for line in _text(_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, names = _ROOT, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            top, names = _ROOT / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        own = top / path.strip("/")
        # A container may see the path from outside, and its own group as the top.
        found += [(folder, *names) for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return found


def _left(folder: Path, limit_file: str, usage_file: str) -> int:
    """Returns what a group may still take; without a limit, all memory."""
    limit, usage = _limit(folder / limit_file), _limit(folder / usage_file)
    if limit is None or usage is None:
        return machine_bytes()
    stat = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
    pages = [int(stat.get(f"total_{name}", stat.get(name, 0))) for name in _FILE_PAGES]
    return limit - usage + sum(pages)


def _limit(file: str | Path) -> int | None:
    text = _text(Path(file)).strip()
    return int(text) if text.isdecimal() else None


def _text(file: Path) -> str:
    """Returns what is in a file; nothing, if it can't be read."""
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
