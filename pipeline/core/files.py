"""Files that are whole or absent: written at once, with fingerprints. Imports no torch."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.core.errors import DataError, repaired


def write_bytes(path: Path, content: bytes, *, flushed: bool = True) -> None:
    """Puts `content` at `path` whole or not at all; flushed, even if the machine stops."""
    with writing(path, flushed=flushed) as file:
        file.write(content)


@contextmanager
def writing(path: Path, *, flushed: bool = True) -> Iterator[BinaryIO]:
    """Gives a file to write to, which is then at `path` whole or not at all; flushed, even if the
    machine stops.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            if flushed:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if flushed:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries, so that a rename in it outlasts a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: object) -> None:
    """Writes `value` as indented JSON; refuses NaN and infinity, which are not JSON."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path, *, made_by: str) -> Any:
    """Returns what `write_json` wrote.

    `made_by` is the stage to run where the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(path, "no such file", fix=f"run `dvc repro {made_by}`") from None
    except (ValueError, NotADirectoryError) as error:
        raise DataError(path, f"not a JSON file ({error})", fix=repaired(made_by)) from None


def fingerprint(value: object) -> str:
    """Returns 32 hex digits that change when `value` (plain JSON) changes.

    The order of its keys does not matter.
    """
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def file_fingerprint(path: Path) -> str:
    """Returns 32 hex digits of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
