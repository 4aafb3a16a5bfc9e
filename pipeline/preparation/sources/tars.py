"""The members of a tar, as they are met: there is no cheap way back in a compressed one."""

import gzip
import tarfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.errors import SourceError
from pipeline.preparation.sources.clutter import is_clutter
from pipeline.preparation.sources.inputs import check_name, need_file


class Member(NamedTuple):
    """A file of a sample: the sample's number and name, the file's extension and, if that was
    wanted, its content.
    """

    number: int
    sample: str
    extension: str
    content: bytes | None


@dataclass(frozen=True)
class Tar:
    """A tar, gzipped or not.

    Attributes:
        last_dot: Whether a sample's name ends at the last dot of a file's, not at the first.
        largest_mb: The most that a member has.
    """

    path: Path
    last_dot: bool
    largest_mb: int

    def members(self, wanted: Collection[str], start: int = 0) -> Iterator[Member]:
        """Yields the files from a sample's number on, with the content of wanted extensions only;
        raises SourceError.
        """
        need_file(self.path)
        number, last = -1, None
        try:
            with self._opened() as content, tarfile.open(fileobj=content, mode="r:") as file:
                while (member := file.next()) is not None:
                    file.members.clear()  # type: ignore[attr-defined]  # it keeps them all, a kilobyte for each
                    folder, slash, name = member.name.rpartition("/")
                    if not member.isreg() or name.startswith(".") or any(map(is_clutter, member.name.split("/"))):
                        continue
                    self._check(member)
                    stem, _, extension = name.rpartition(".") if self.last_dot and "." in name else name.partition(".")
                    sample = folder + slash + stem
                    number, last = number + (sample != last), sample
                    if number >= start:
                        extension = extension.lower()
                        yield Member(number, sample, extension, _content(file, member) if extension in wanted else None)
                _check_end(file)
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise SourceError(self.path, f"not a sound tar ({error})", fix="fetch it again") from None

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        with self.path.open("rb") if self.path.suffix == ".tar" else gzip.open(self.path) as file:
            yield _Bounded(file, self.largest_mb << 20)

    def _check(self, member: tarfile.TarInfo) -> None:
        check_name(member.name, self.path)
        if member.size > self.largest_mb << 20:
            found, most = f"a member of {member.size:,} bytes", f"at most {self.largest_mb:,} MiB"
            fix = "set `largest_mb` in the source's settings, if it is no mistake"
            raise SourceError(f"{self.path}:{member.name}", found, expected=most, fix=fix)


class _Bounded:
    """A file that is never asked for more than so many bytes at once, as tarfile does where a name
    claims to be that long.
    """

    def __init__(self, file: Any, most_bytes: int) -> None:
        self._file, self._most_bytes = file, most_bytes
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._most_bytes + tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"a part of {size:,} bytes")
        content: bytes = self._file.read(size)
        return content


def _content(file: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = file.extractfile(member)
    assert content is not None, "it is a file"
    return content.read()


def _check_end(file: tarfile.TarFile) -> None:
    """Raises ReadError unless a block of zeros ends the tar: tarfile takes any damaged header for
    the end.
    """
    assert file.fileobj is not None, "it is open"
    file.fileobj.seek(file.offset)
    block = file.fileobj.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("cut short")
    if any(block):
        raise tarfile.ReadError(f"a damaged header at byte {file.offset:,}")
