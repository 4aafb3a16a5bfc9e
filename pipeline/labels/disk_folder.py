"""A folder on a disk, written as an object store is: by any number of processes, without locks.

For file systems whose locks do not work, and for a disk that stands in for a bucket.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from pipeline.core.files import sync_folder
from pipeline.labels.answers import PIECE_BYTES, Answer, ServerError


class DiskFolder:
    """A folder on a disk.

    Args:
        aside: The folder in it for files that are being written: what a killed process leaves there
            is in nobody's way.
    """

    needed_keys = ""

    def __init__(self, folder: Path, aside: str) -> None:
        self._folder, self._aside = folder, folder / aside

    def get(self, name: str) -> Answer:
        try:
            file = (self._folder / name).open("rb")
        except (FileNotFoundError, NotADirectoryError):
            raise ServerError("missing", "no such file") from None
        except IsADirectoryError:
            raise ServerError("lasting", "it is a folder") from None
        return Answer(os.fstat(file.fileno()).st_size, iter(lambda: file.read(PIECE_BYTES), b""), file.close)

    def put(self, name: str, content: bytes, *, new: bool) -> bool:
        path, partial = self._folder / name, self._aside / uuid4().hex
        if new and path.exists():
            return False
        try:
            for folder in (path.parent, partial.parent):
                _make(folder)
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if not (new and _linked(partial, path)):
                partial.replace(path)
        except FileExistsError:
            return False
        except FileNotFoundError:  # another process has cleared a folder away meanwhile
            raise ServerError("passing", "a folder is gone") from None
        except OSError as error:  # a full disk, of which writing does not say where it is
            error.filename = error.filename or str(path)
            raise
        finally:
            with suppress(OSError):
                partial.unlink()
        with suppress(FileNotFoundError):  # cleared away at once
            sync_folder(path.parent)
        return True

    def size(self, name: str) -> int | None:
        try:
            return (self._folder / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def sizes(self, folder: str) -> dict[str, int]:
        found = {}
        for place, _, files in os.walk(self._folder / folder):  # passes over a folder that is gone meanwhile
            for path in (Path(place, name) for name in files):
                with suppress(FileNotFoundError):
                    found[path.relative_to(self._folder).as_posix()] = path.stat().st_size
        return found

    def delete(self, names: Sequence[str]) -> None:
        for path in (*(self._folder / name for name in names), self._aside / "nothing"):
            path.unlink(missing_ok=True)
            with suppress(OSError):  # as in a bucket, an empty folder is none
                while (path := path.parent) != self._folder:
                    path.rmdir()


def _make(folder: Path) -> None:
    """Makes a folder; raises ServerError where something else is in its place, or another process
    clears it away meanwhile.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        blocked = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if blocked.is_dir():
            raise ServerError("passing", "a folder is gone") from None
        raise ServerError("lasting", f"{blocked} is no folder") from None


def _linked(partial: Path, path: Path) -> bool:
    """Gives a file its name, where nothing has that; returns False where the file system has no
    hard links. Raises FileExistsError.
    """
    try:
        path.hardlink_to(partial)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        return False
    return True
