"""Memory and room on a disk that are not there: what was asked for, by whom, and where."""

import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_TOP = Path(__file__).parents[2]
_OUT_OF_MEMORY = (
    "out of memory",  # CUDA and MPS
    "can't allocate memory",  # a CPU, on Linux and macOS
    "not enough memory",  # on Windows
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED
    "storage size calculation overflowed",  # more bytes than there are numbers
)
_ASKED = re.compile(r"(?:allocate|unable to allocate) ([\d.]+) ?([kmgtp]?i?b|bytes)\b", re.IGNORECASE)
_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that memory is used up, a device's or this machine's."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in said for words in _OUT_OF_MEMORY)
    )


def memory_asked(error: BaseException) -> str:
    """Returns how much memory was asked for at once, as far as the error has it."""
    if "overflowed" in str(error):
        return "more memory than can be numbered"
    asked = _ASKED.search(str(error))
    if asked is None:
        return "memory"
    return f"{in_gigabytes(float(asked[1]) * _UNITS[asked[2][0].lower()])} of memory at once"


def memory_line(error: BaseException) -> str:
    """Returns which of our files asked for how much memory that is not there, and what to do."""
    place, trace = "a library", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(_TOP / "pipeline") or file.is_relative_to(_TOP / "stages"):
            place = f"{file.relative_to(_TOP)} ({trace.tb_frame.f_code.co_name})"
        trace = trace.tb_next
    fix = "lower the size, count or batch_size in params.yaml that it follows from, or free some"
    return f"memory: none left: {place} asked for {memory_asked(error)}; {fix}"


def fullest_folder() -> str:
    """Returns the folder that stages write to with the least room, and how much that is: an error
    of a full disk seldom has a name.
    """
    places = ["work", "data", "reports", "."]
    with suppress(OSError):  # no place for temporary files has room
        places.append(tempfile.gettempdir())
    rooms = []
    for place in places:
        with suppress(OSError):
            rooms.append((shutil.disk_usage(place).free, str(Path(place).absolute())))
    free, folder = min(rooms, default=(0, "no folder"))
    return f"{folder} has {free / 1e6:,.1f} MB left"


def in_gigabytes(num_bytes: float) -> str:
    """Returns a size in GB."""
    return f"{num_bytes / 1e9:,.3g} GB" if num_bytes < 1e12 else f"{num_bytes / 1e9:,.0f} GB"
