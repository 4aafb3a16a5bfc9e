"""Files from anywhere, looked at before they are opened: a pipe may never end, a device never does,
and a packed file may claim any size.
"""

import gzip
import os
import stat
import zlib
from collections.abc import Generator, Iterator
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipeline.core.memory import need_room

MOST_SIGNS = 1 << 20  # of a line: a table of 10,000 columns has a tenth of it
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def odd_file(path: Path, most_bytes: int | None = None) -> str | None:
    """Returns what is at a path where that is no regular file, or one of too many bytes.

    Returns None for a file as it should be, and where there is nothing.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (half the time of path.stat)
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return "a folder"
    if not stat.S_ISREG(status.st_mode):
        return "no file (a pipe, a socket or a device)"
    if most_bytes is not None and status.st_size > most_bytes:
        return f"{status.st_size:,} bytes, of at most {most_bytes:,}"
    return None


def text_lines(
    path: Path, *, encoding: str = "utf-8", errors: str = "strict", ends: bool = False
) -> Generator[str, None, None]:
    """Yields the lines of a text file, with their ends as they are if `ends`, else without; those
    of a file that ends in .gz are unpacked.

    Raises ValueError for what is no regular file, for a line of more than MOST_SIGNS, of which no
    more is read, and for bytes that are no text, or not packed.
    """
    if found := odd_file(path):
        raise ValueError(found)
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        yield from _lines_in(opened(path, "rt", encoding=encoding, errors=errors, newline="" if ends else None), ends)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"not packed as .gz, or cut off ({error})") from None


def _lines_in(text: IO[str], ends: bool) -> Iterator[str]:
    with text as file:
        number = 0
        while line := file.readline(MOST_SIGNS + 1):
            number += 1
            if len(line) > MOST_SIGNS:
                raise ValueError(f"line {number:,} has more than {MOST_SIGNS:,} characters")
            yield line if ends else line.removesuffix("\n")


def need_small(num_bytes: int, most_mb: int | None) -> None:
    """Raises ValueError where bytes would be more than a setting allows or than the machine has."""
    if most_mb is not None and num_bytes > most_mb << 20:
        raise ValueError(f"{num_bytes:,} bytes unpacked, of at most {most_mb:,} MiB (`largest_mb`)")
    need_room(num_bytes)


def read_packed(arrays: np.lib.npyio.NpzFile, name: str, most_mb: int | None = None) -> np.ndarray:
    """Returns an array of an .npz file; raises ValueError where its header claims too much, or
    another size than the file has.
    """
    file = arrays.zip
    assert file is not None, "it is open"
    try:
        info = file.getinfo(f"{name}.npy")
    except KeyError:
        raise ValueError(f"{name!r} is no .npy file") from None
    with file.open(info) as member:
        read_header: Any = _NPY_HEADERS.get(np.lib.format.read_magic(member))
        if read_header is None:
            raise ValueError("an array of another version of .npy")
        shape, _, dtype = read_header(member)
        claimed = prod(shape) * dtype.itemsize
        if dtype.hasobject:
            raise ValueError("Python objects, which could run code")
        if member.tell() + claimed != info.file_size:
            raise ValueError(f"its header claims {claimed:,} bytes, and {info.file_size - member.tell():,} are packed")
        need_small(claimed, most_mb)
    with file.open(info) as member:
        array: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
    return array
