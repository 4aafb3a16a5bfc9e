"""A packed store, mirrored on disk as it is read.

Of a file on this disk the mirror takes what is asked for. A file at a URL is fetched whole as soon
as more than its description is asked for, and unpacked; it is not kept beside what it held.
"""

from collections.abc import Iterable
from pathlib import Path

from pipeline.core.files import write_bytes
from pipeline.core.locks import Lock
from pipeline.labels.cache import begin_mirror, is_there, lock_of
from pipeline.labels.fetched import PackedUrl
from pipeline.labels.mirrored import FetchError
from pipeline.labels.packed import FIX, PackedFile


class LocalMirror:
    """The packed store at a path, in `folder` as far as it was unpacked; raises StoreError where
    there is none.
    """

    where_damaged, objects = "in the packed file", None

    def __init__(self, path: Path) -> None:
        self.location = str(path)
        self._file = PackedFile(path, self.location)
        self.folder = begin_mirror(str(path.resolve()), self._file.description)

    def fetch(self, names: Iterable[str], most_bytes: int, *, again: bool = False) -> None:
        """Unpacks files that the folder lacks or, with `again`, all that are named; raises
        FetchError. None is larger than the file, and each is measured when it is read.
        """
        for name in names:
            if again or not is_there(self.folder / name):
                write_bytes(self.folder / name, self._file.read(name))

    def signed_again(self) -> None:
        """Does nothing: a packed store does not change."""

    def drop(self, names: Iterable[str]) -> None:
        """Removes files from the folder."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


class FetchedMirror:
    """The packed store at a URL, in `folder` as a whole once more than its description was asked
    for; raises StoreError where there is none.
    """

    where_damaged, objects = "in the packed file at its URL", None

    def __init__(self, url: str) -> None:
        self._source = PackedUrl(url)
        self.location = self._source.location
        self.folder = begin_mirror(self.location, self._source.description)
        self._again = False  # whether this process has fetched it a second time

    def fetch(self, names: Iterable[str], most_bytes: int, *, again: bool = False) -> None:
        """Fetches and unpacks the whole file where the folder lacks one of these or, once, with
        `again`; raises FetchError. Each is measured when it is read.
        """
        wanted = list(names)
        again = again and not self._again
        self.folder.mkdir(parents=True, exist_ok=True)
        if again or self._missing(wanted):
            with Lock(lock_of(self.folder)).hold(self.location):
                if again or self._missing(wanted):  # another process may have fetched it meanwhile
                    self._unpack()
                    self._again = self._again or again
        if missing := self._missing(wanted):
            raise FetchError(f"{self.location}/{missing[0]}", "is missing in the packed file", fix=FIX)

    def signed_again(self) -> None:
        """Does nothing: a packed store does not change."""

    def drop(self, names: Iterable[str]) -> None:
        """Removes files from the folder."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def _missing(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if not is_there(self.folder / name)]

    def _unpack(self) -> None:
        with self._source.fetched(self.folder) as file:
            for name in file.names:
                write_bytes(self.folder / name, file.read(name))
