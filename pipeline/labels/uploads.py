"""Files put to a place that many processes write to: tried again where the connection fails, and
never over what others have put there unless that is asked for.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from pipeline.core.errors import StoreError
from pipeline.core.progress import say
from pipeline.labels.answers import AT_ONCE, ServerError, WritableServer
from pipeline.labels.buckets import SCHEMES
from pipeline.labels.disk_folder import DiskFolder
from pipeline.labels.servers import connect, is_url, parse_url

TRIES = 9
FIRST_WAIT_S = 0.25  # before the second try; doubled before each further one
MOST_WAIT_S = 30.0
_SILENT_TRIES = 3
UNCONDITIONAL = "keeps no object from being replaced"
_OTHER_SERVER = "use a server that knows conditional writes, or a shared disk"

Found = TypeVar("Found")


class ObjectFolder:
    """A folder of objects at a place, to which any number of processes write without locks.

    Each object is there whole or not at all, and who creates one that is there already gets that.
    All of this raises StoreError, in one line, for a place that is of no use, refused access, and
    what does not succeed in `TRIES` tries.
    """

    def __init__(self, place: str, server: WritableServer) -> None:
        self.place, self._server = place, server

    @classmethod
    def at(cls, place: str, aside: str) -> "ObjectFolder":
        """Returns the folder at a path or a URL.

        Args:
            aside: The folder in it for what is being written, on a disk.
        """
        if not is_url(place) or place.startswith("file://"):
            path = Path(unquote(urlsplit(place).path) if is_url(place) else place)
            return cls(str(path), DiskFolder(path, aside))
        return cls.of_server(place, connect(parse_url(place), place.rstrip("/")))

    @classmethod
    def of_server(cls, place: str, server: object) -> "ObjectFolder":
        """Returns the folder at a URL whose server is known."""
        if place.partition(":")[0] not in SCHEMES:
            expected = "a folder, or an address that begins with s3://, gs:// or az://"
            raise StoreError(place, "can't be written to", expected=expected)
        return cls(place.rstrip("/"), server)  # type: ignore[arg-type]

    def create(self, name: str, content: bytes) -> bytes | None:
        """Puts an object there unless there is one; returns the one that was there, None where this
        is it.

        What an earlier try has put there, of which no answer came, was there, too.
        """

        def act() -> bytes | None:
            if self._server.put(name, content, new=True):
                return None
            there = self._get(name)
            if there is None:
                raise ServerError("passing", "another process is at work on it")
            return there

        return self._patiently(name, act)

    def offer(self, name: str, content: bytes) -> bool:
        """Puts an object there that anyone would make to the same bytes; returns whether it was not
        there. Raises StoreError where other bytes are there.
        """
        there = self.create(name, content)
        if there is not None and there != content:
            raise StoreError(
                f"{self.place}/{name}",
                "other bytes stand there than were made here",
                expected="the same (is it another kind of processor, or are other versions of libraries at work?)",
                fix="name another folder, or delete what is in this one",
            )
        return there is None

    def offer_files(self, folder: Path, files: Mapping[str, str]) -> bool:
        """Offers files of a folder on this machine, beside each other; returns whether none was
        there.

        Args:
            files: Their paths in the folder, by the names of the objects.
        """

        def offer(name: str) -> bool:
            return self.offer(name, (folder / files[name]).read_bytes())

        with ThreadPoolExecutor(AT_ONCE) as threads:
            return all(list(threads.map(offer, files)))

    def put(self, name: str, content: bytes) -> None:
        """Puts an object there in place of what may be there."""
        self._patiently(name, lambda: self._server.put(name, content, new=False))

    def read(self, name: str) -> bytes | None:
        """Returns an object; None where there is none."""
        return self._patiently(name, lambda: self._get(name))

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Returns those of some objects that are there, read beside each other."""
        names = list(names)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            found = zip(names, threads.map(self.read, names), strict=True)
            return {name: content for name, content in found if content is not None}

    def has(self, name: str) -> bool:
        """Returns whether there is an object of that name."""
        return self._patiently(name, lambda: self._server.size(name)) is not None

    def sizes(self, folder: str) -> dict[str, int]:
        """Returns the bytes of each object in a folder and those below, by its name."""
        return self._patiently(folder, lambda: self._server.sizes(folder))

    def delete(self, names: Sequence[str]) -> None:
        """Deletes objects, of which some may be gone already."""
        if names:
            self._patiently(names[0], lambda: self._server.delete(names))

    def need_conditions(self, name: str, content: bytes) -> None:
        """Raises StoreError where the server puts an object over another that it was not to
        replace; `content` is what it has.
        """
        if self.create(name, content) is None:
            raise StoreError(self.place, f"its server {UNCONDITIONAL}", fix=_OTHER_SERVER)

    def _get(self, name: str) -> bytes | None:
        try:
            answer = self._server.get(name)
        except ServerError as error:
            if error.kind != "missing":
                raise
            return None
        try:
            content = b"".join(answer.pieces)
        finally:
            answer.close()
        if answer.size not in (None, len(content)):
            raise ServerError("passing", f"{len(content)} bytes came instead of {answer.size}")
        return content

    def _patiently(self, name: str, act: Callable[[], Found]) -> Found:
        """Returns what `act` does, which is done again as long as that may be of use."""
        where = f"{self.place}/{name}"
        for tried in range(1, TRIES + 1):
            try:
                return act()
            except ServerError as error:
                if error.kind != "passing":
                    raise self._fault(where, error) from None
                reason = error.reason
            if tried < TRIES:
                # By chance, so that those who failed together do not come back together.
                wait = min(FIRST_WAIT_S * 2 ** (tried - 1), MOST_WAIT_S) * random.uniform(0.5, 1.0)
                if tried >= _SILENT_TRIES:  # one request of many fails now and then
                    say(f"{where}: {reason}; trying again in {wait:.2g} s ({tried + 1} of {TRIES})")
                sleep(wait)
        fix = "look after the connection or the server, then run the same command to go on"
        raise StoreError(where, f"no success in {TRIES} tries ({reason})", fix=fix)

    def _fault(self, where: str, error: ServerError) -> StoreError:
        if error.kind == "missing":
            return StoreError(self.place, f"no such bucket ({error.reason})", fix="make it, or fix the address")
        if error.kind == "lasting":
            if error.reason.startswith("501"):
                return StoreError(where, f"{UNCONDITIONAL} ({error.reason})", fix=_OTHER_SERVER)
            fix = "correct what is there, or name another place"
            return StoreError(where, f"can't be written to ({error.reason})", fix=fix)
        if keys := self._server.needed_keys:
            return StoreError(where, f"access refused ({error.reason}); asked without credentials", fix=f"set {keys}")
        fix = "fix the credentials, or the rights to read, write, list and delete there"
        return StoreError(where, f"access refused ({error.reason})", fix=fix)
