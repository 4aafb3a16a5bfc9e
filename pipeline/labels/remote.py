"""A store at a URL, mirrored on disk.

A mirror is a folder that comes to hold the same files as the store at its URL, each fetched when it
is first asked for: whole, once, by however many processes. Names are asked for and never listed, so
that any static web server will do. The folder's name is made of the URL and the content of the
store's `zarr.json`, which is fetched at every opening: a store that was replaced gets another
folder. All of a mirror may be deleted at any time."""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from pipeline.core.array_files import GROUP_BYTES
from pipeline.core.arrays import DESCRIPTION, ArrayGroup
from pipeline.core.files import sync_folder
from pipeline.core.locks import Lock
from pipeline.core.remedies import Remedies
from pipeline.labels.buckets import SCHEMES
from pipeline.labels.cache import begin_mirror, is_there, lock_of, sha256
from pipeline.labels.downloads import Download
from pipeline.labels.mirrored import FetchError, MirroredGroup
from pipeline.labels.packed import is_packed
from pipeline.labels.servers import connect, is_url, parse_url, without_password
from pipeline.labels.unpacked import FetchedMirror, LocalMirror
from pipeline.labels.uploads import ObjectFolder


def open_group(place: Path | str, *, made_by: str | Remedies) -> ArrayGroup:
    """Opens the arrays at a path or URL, packed or not, for reading; raises StoreError where there
    are none.
    """
    if is_packed(place):
        return MirroredGroup(FetchedMirror(str(place)) if is_url(place) else LocalMirror(Path(place)))
    return MirroredGroup(Mirror(str(place))) if is_url(place) else ArrayGroup.open(Path(place), made_by=made_by)


class Mirror:
    """The store at `url`, in `folder` as far as it was fetched.

    Raises FetchError, in one line, for an address that is of no use and for what `Download` can't
    fetch."""

    where_damaged = "at its URL"

    def __init__(self, url: str) -> None:
        address = parse_url(url)
        self.location = without_password(address)
        self._server = connect(address, self.location)
        self.objects = ObjectFolder.of_server(self.location, self._server) if address.scheme in SCHEMES else None
        root = self._root("no such store")
        self._digest = sha256(root)
        self.folder = begin_mirror(self.location, root)

    def fetch(self, names: Iterable[str], most_bytes: int, *, again: bool = False) -> None:
        """Fetches files of the store into the folder: those that it lacks or, with `again`, all of
        them; each has at most so many bytes.
        """
        for name in names:
            file = self.folder / name
            if is_there(file) and not again:
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            with Lock(lock_of(self.folder)).hold(self.location):
                if again or not is_there(file):  # another process may have fetched it meanwhile
                    self._fetch(name, file, most_bytes)

    def signed_again(self) -> None:
        """Takes the description in the folder for the store's, which it has become."""
        self._digest = sha256((self.folder / DESCRIPTION).read_bytes())

    def drop(self, names: Iterable[str]) -> None:
        """Removes files from the folder."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def _fetch(self, name: str, file: Path, most_bytes: int) -> None:
        partial = file.with_name(f"{file.name}.partial")
        try:
            with partial.open("wb") as out:
                missing = "no such array" if name.endswith(DESCRIPTION) else "block file is missing at its URL"
                if not self._download(name, out, most_bytes, missing):
                    raise FetchError(f"{self.location}/{name}", "is empty", fix="put a whole store there")
                out.flush()
                os.fsync(out.fileno())
            if sha256(self._root("store is gone")) != self._digest:
                raise FetchError(self.location, "was replaced while it was read", fix="run the same command again")
            partial.replace(file)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(file.parent)

    def _root(self, missing: str) -> bytes:
        content = io.BytesIO()
        self._download(DESCRIPTION, content, GROUP_BYTES, missing)
        return content.getvalue()

    def _download(self, name: str, out: IO[bytes], most_bytes: int, missing: str) -> int:
        """Writes a remote file to `out` and returns its size."""
        fix = "fix the address" if name == DESCRIPTION else "put a whole store there"
        return Download(self._server, self.location, name, out, most_bytes).run(missing, fix)
