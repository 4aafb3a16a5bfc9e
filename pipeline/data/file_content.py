"""The content of a sample's file, read with an eye on what it is."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pipeline.core.errors import PipelineError
from pipeline.core.plain_files import odd_file

Content = bytes | Path | UInt8[np.ndarray, "channels height width"]

MOST_BYTES = 2**30


class DecodeError(PipelineError):
    """An error that an image file is no image, or is damaged; the caller knows which file it is."""

    def __init__(self, reason: str) -> None:
        self.reason = " ".join(reason.split())
        super().__init__("image", self.reason)


def read(content: Content) -> bytes | UInt8[np.ndarray, "channels height width"]:
    """Returns the content, a path replaced by the bytes of its file.

    Raises DecodeError where the file can't be read or is empty.
    """
    if isinstance(content, np.ndarray):
        return content
    if isinstance(content, Path) and (odd := odd_file(content, MOST_BYTES)):
        raise DecodeError(odd)
    try:
        found = content if isinstance(content, bytes) else _bytes_in(content)
    except FileNotFoundError:
        raise DecodeError(_absent(content)) from None
    except OSError as error:
        raise DecodeError(f"can't be read ({error.strerror})") from None
    if not found:
        raise DecodeError("empty (0 bytes)")
    return found


def _bytes_in(path: Path) -> bytes:
    file = os.open(path, os.O_RDONLY)  # for a small file half the time of `open` and `read`
    try:
        found, size = b"", os.fstat(file).st_size
        while some := os.read(file, size - len(found) + 1):
            found = found + some if found else some
            if len(found) == size:
                break
        return found
    finally:
        os.close(file)


def _absent(content: Content) -> str:
    return "a link to nowhere" if isinstance(content, Path) and content.is_symlink() else "no such file"
