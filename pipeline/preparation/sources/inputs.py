"""The files that a source reads, as one fingerprint of their names, sizes and times.

DVC, `prepare` and the doctor ask here, so that they see the same files: also those behind links and
those that a table lists.
"""

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import SourceError
from pipeline.core.plain_files import odd_file


@dataclass
class Inputs:
    """The files that a source reads.

    Attributes:
        missing: Those that are not there, such as a table's images or links to nowhere.
        fingerprint: 32 hex digits; None where the source reads no files of the user's.
    """

    num_files: int = 0
    num_bytes: int = 0
    missing: list[str] = field(default_factory=list)
    fingerprint: str | None = None


def look_at(files: Iterable[str]) -> Inputs:
    """Returns what the system knows of some files; none of them is opened.

    A link counts with what it leads to. Content is not read, because that takes as long as
    preparing it: as with `make` and `rsync`, another content has another size or time.

    Raises SourceError for a name that is not UTF-8, and for what is neither a file nor missing.
    """
    found, digest = Inputs(), hashlib.sha256()
    folder, leads_to = None, ""
    for path in files:
        if (above := path.rpartition("/")[0]) != folder:
            folder, leads_to = above, _leads_to(above)
        size, time, target = _facts(path)
        try:
            digest.update(f"{path}\0{leads_to}\0{target}\0{size}\0{time}\0".encode())
        except UnicodeEncodeError:
            check_name(path)
            raise
        found.num_files += 1
        found.num_bytes += size
        if time is None:
            found.missing.append(path)
    if found.num_files:
        found.fingerprint = digest.hexdigest()[:32]
    return found


def need_file(path: Path, most_bytes: int | None = None) -> None:
    """Raises SourceError for what is there and is no file, or has too many bytes: every source asks
    before it opens one, because to open a pipe may take for ever.
    """
    if found := odd_file(path, most_bytes):
        raise SourceError(path, found, expected="a file")


def check_name(name: str, where: object = "") -> None:
    """Raises SourceError for a name that is not UTF-8: lists and pages could not show it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        try:
            found = name.encode("utf-8", "surrogateescape")  # the bytes of a file's name
        except UnicodeEncodeError:
            found = name.encode("utf-8", "surrogatepass")  # half of a sign, as JSON can write it
        shown = found.decode("utf-8", "backslashreplace")
        place = f"{where}: {shown}" if where else shown
        raise SourceError(place, "a name that is not UTF-8", fix="rename it (`convmv` renames many)") from None


def _leads_to(folder: str) -> str:
    """Returns the real path of a folder behind a link, empty text where there is none.

    A project that is moved with its images keeps its fingerprint.
    """
    real = os.path.realpath(folder)
    return "" if real == os.path.normpath(Path(folder).absolute()) else real


def _facts(path: str) -> tuple[int, int | None, str]:
    """Returns the size, time (None: not there) and, of a link, target of a file."""
    try:
        facts, target = os.lstat(path), ""
        if stat.S_ISLNK(facts.st_mode):
            facts, target = Path(path).stat(), os.path.realpath(path)
    except (FileNotFoundError, NotADirectoryError):
        return 0, None, ""
    except OSError as error:
        raise SourceError(path, f"can't be read ({error.strerror})") from None
    if not stat.S_ISREG(facts.st_mode):
        need_file(Path(path))
    return facts.st_size, facts.st_mtime_ns, target
