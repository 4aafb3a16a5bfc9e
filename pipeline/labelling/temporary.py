"""Temporary folders, and the error of a full disk under them, which names that disk."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.shortage import is_out_of_memory

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NEARLY_FULL_BYTES = 1 << 20  # what is written here comes in pieces of about so much


class FullDiskError(PipelineError):
    """An error that the disk for temporary files is full."""


@contextmanager
def full_disk_named() -> Iterator[None]:
    """Raises FullDiskError in place of an error of the system's that names no disk: the check-up
    writes to that for temporary files alone.
    """
    try:
        yield
    except Exception as error:
        # Where no folder can be made, Python tries several places, and calls it a missing file.
        if _is_of_full_disk(error) or "No usable temporary directory" in str(error):
            raise _full_disk() from error
        raise


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yields a folder that is deleted afterwards.

    Raises FullDiskError also where a library makes an error of its own of a full disk.
    """
    with full_disk_named(), tempfile.TemporaryDirectory() as name:
        try:
            yield Path(name)
        except Exception as error:
            if _is_a_librarys(error) and _free_bytes(name) < _NEARLY_FULL_BYTES:
                raise _full_disk() from error
            raise


def _is_of_full_disk(error: BaseException) -> bool:
    return any(isinstance(one, OSError) and one.errno in _FULL for one in _chain(error))


def _is_a_librarys(error: BaseException) -> bool:
    return any(not isinstance(one, PipelineError) and not is_out_of_memory(one) for one in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and those that led to it."""
    while True:
        yield error
        cause = error.__cause__ or error.__context__
        if cause is None:
            return
        error = cause


def _free_bytes(folder: str) -> int:
    return shutil.disk_usage(folder).free


def _full_disk() -> FullDiskError:
    place = os.environ.get("TMPDIR") or tempfile.gettempdir()
    return FullDiskError(f"{place} (TMPDIR)", os.strerror(errno.ENOSPC), fix="set TMPDIR to a folder on a larger disk")
