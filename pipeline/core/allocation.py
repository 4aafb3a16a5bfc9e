"""Settings of glibc: what becomes of freed memory. Other C libraries have no such settings."""

import ctypes

from pipeline.core.memory import free_bytes

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LEAST_FROM_HEAP, _MOST_FROM_HEAP = 128 << 10, 32 << 20  # where glibc begins, and the largest that it takes
_PARTS = 64  # of the free memory: a training within 240 MB has none to spare


def keep_freed_memory() -> None:
    """Has blocks of up to 32 MB come from memory that was freed before, of which 64 MB are kept;
    where little is free, less.

    glibc comes to the same by itself once a block of 32 MB was freed, as it is where a whole data
    set is read. Until then each step's larger tensors are mapped and unmapped again, page by page:
    a tenth of the time of a step of 3 ms.
    """
    most = max(_LEAST_FROM_HEAP, min(_MOST_FROM_HEAP, free_bytes() // _PARTS))
    _set(_M_MMAP_THRESHOLD, most)
    _set(_M_TRIM_THRESHOLD, 2 * most)


def share_arenas() -> None:
    """Keeps glibc from holding freed memory back for each thread.

    That is 80 MB of a peak of 290 otherwise, where reading, decompressing and training are threads
    of their own.
    """
    _set(_M_ARENA_MAX, 2)


def _set(option: int, value: int) -> None:
    try:
        ctypes.CDLL(None).mallopt(option, value)
    except (AttributeError, OSError, TypeError):
        return
