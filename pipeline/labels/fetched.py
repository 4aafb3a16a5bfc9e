"""A packed store at a URL: its description, of which the first bytes are fetched, and the whole
file.
"""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from pipeline.core.array_files import GROUP_BYTES
from pipeline.core.errors import StoreError
from pipeline.core.progress import progress
from pipeline.labels.answers import Answer, Server
from pipeline.labels.downloads import Download
from pipeline.labels.mirrored import FetchError
from pipeline.labels.packed import FIX, PackedFile, first_member, manifest_of, most_bytes, usual_bytes
from pipeline.labels.servers import connect, is_url, parse_url, without_password

_ABSENT = "no such file", "fix the address"


class PackedUrl:
    """A packed store at a URL.

    Raises StoreError, in one line, for an address that is of no use, and FetchError where no packed
    store comes from it.
    """

    def __init__(self, url: str) -> None:
        address = parse_url(url)
        self.location = without_password(address)
        self._folder, _, self._name = self.location.rpartition("/")
        self._server = connect(address._replace(path=address.path.rpartition("/")[0]), self._folder)
        begun, content = _Beginning(self._server, self.location), io.BytesIO()
        Download(begun, self._folder, self._name, content, GROUP_BYTES).run(*_ABSENT)
        self.description = content.getvalue()
        self._manifest = manifest_of(self.description, self.location)

    @contextmanager
    def fetched(self, folder: Path) -> Iterator[PackedFile]:
        """Fetches the file, and gives it until it is deleted; `folder` has room for it and for what
        it holds.
        """
        usual, free = usual_bytes(self._manifest), shutil.disk_usage(folder).free
        if 2 * usual > free:
            found = f"takes {2 * usual:,} bytes of {folder} while it is unpacked, which has {free:,} free"
            raise StoreError(self.location, found, fix="free space, or set POTSTILL_CACHE to a folder elsewhere")
        with NamedTemporaryFile(dir=folder, suffix=".partial") as out:
            with progress(f"fetch {self._name}", usual, "byte") as on_bytes:
                most = min(most_bytes(self._manifest), free)
                Download(self._server, self._folder, self._name, out.file, most, on_bytes).run(*_ABSENT)
            out.flush()
            file = PackedFile(Path(out.name), self.location)
            if file.description != self.description:
                raise FetchError(self.location, "was replaced while it was read", fix="run the same command again")
            yield file


class _Beginning:
    """A server that sends the first member of a packed store alone."""

    def __init__(self, server: Server, where: str) -> None:
        self._server, self._where, self.needed_keys = server, where, server.needed_keys

    def get(self, name: str) -> Answer:
        answer = self._server.get(name)
        return Answer(None, self._pieces(answer.pieces), answer.close)

    def _pieces(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield first_member(pieces)
        except ValueError as error:
            raise FetchError(self._where, str(error), fix=FIX) from None


@contextmanager
def open_packed(place: str, folder: Path) -> Iterator[PackedFile]:
    """Gives the packed store at a path or URL; `folder` is for a file that must be fetched."""
    if not is_url(place):
        yield PackedFile(Path(place), place)
        return
    with PackedUrl(place).fetched(folder) as file:
        yield file
