"""The place where workers without a shared disk meet: a folder in an object store.

Under `.potstill/` in that folder lie `dump.json`, which names what decides the stores and stays
there, and, in a folder named by the fingerprint of that, what the workers agree on and the records
of blocks. A record is put there after the files of its block, and the `zarr.json` of a store after
all else of it. So a kill at any instant leaves nothing that anyone could take for more than it is.

Nobody claims a block. Its bytes are the same whoever makes it, so two who make one lose time alone;
each begins at another place, and who meets another's blocks goes on elsewhere.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from pipeline.core.arrays import DESCRIPTION
from pipeline.core.errors import StoreError
from pipeline.core.files import fingerprint
from pipeline.core.progress import say
from pipeline.labelling.records import Records, UploadedRecords
from pipeline.labelling.site import Found
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.uploads import ObjectFolder
from pipeline.sharing.workers import Worker

_OWN = ".potstill"
_OWNER = f"{_OWN}/dump.json"


class Meetings:
    """The way in which workers share blocks that nobody can claim."""

    blocks_behind = 2  # that wait to be put to the object store while the teacher goes on

    def __init__(self, over: Callable[[], bool]) -> None:
        self.over = over
        self.records: list[UploadedRecords] = []
        self._random = random.SystemRandom()

    @contextmanager
    def attempt(self, name: str) -> Iterator[bool]:
        yield True

    def skipped(self, count: int) -> int:
        """Returns the number of blocks to go past, of `count` that are left: 0 as long as this
        worker meets nobody, then any.
        """
        met = [records for records in self.records if records.met]
        for records in met:
            records.met = False
        return self._random.randrange(count) if met and count else 0


class RemoteSite:
    """A folder in an object store, and one of this process's own on this machine.

    Raises StoreError where the place holds stores of other settings.

    Args:
        here: On this machine: empty, and deleted afterwards.
        decides: Everything that decides the stores.
        stores: Their names.
    """

    grow = None
    earlier: Path | None = None
    encodings_before: Mapping[str, Any] = {}
    title = "dump_labels"

    def __init__(self, place: str, here: Path, decides: Mapping[str, Any], stores: list[str], worker: Worker) -> None:
        self._decides = json.loads(json.dumps(decides))
        self._work = f"{_OWN}/{fingerprint(self._decides)[:16]}"
        self._objects = ObjectFolder.at(place, aside=f"{self._work}/partial")
        self.place, self._here, self._stores = self._objects.place, here, stores
        self.worker, self.output = worker, here / "output"
        self.output.mkdir()
        self.claims = Meetings(lambda: self.done)
        self._take_place()

    def _take_place(self) -> None:
        """Makes the place this dump's own, or raises StoreError where it is another's."""
        own = (json.dumps(self._decides, indent=2, sort_keys=True) + "\n").encode()
        there = self._objects.read(_OWNER)
        if there is None:
            if any(self._objects.has(self._root(store)) for store in self._stores):
                fix = "name another folder, or delete this one's stores"
                raise StoreError(self.place, "holds stores that were put there otherwise", fix=fix)
            there = self._objects.create(_OWNER, own) or own
        if there != own:
            found = f"is the place of a dump that differs in {_differing(there, self._decides)}"
            fix = "name another folder for --to, or delete this one"
            raise StoreError(self.place, found, expected="the same settings, code and kind of device", fix=fix)
        self._objects.need_conditions(_OWNER, own)

    @property
    def done(self) -> bool:
        return self._objects.has(self._root(self._stores[-1]))  # the last one to be published

    def beginning(self) -> AbstractContextManager[None]:
        return nullcontext()

    def agreed(self, name: str, act: Callable[[Path], Found]) -> Found:
        file, theirs = self._here / name, self._objects.read(f"{self._work}/{name}")
        if theirs is not None:
            file.write_bytes(theirs)
        found = act(file)
        if theirs is None and file.exists():
            theirs = self._objects.create(f"{self._work}/{name}", own := file.read_bytes())
            if theirs not in (None, own):
                file.write_bytes(theirs or b"")
                return act(file)
        return found

    def records(self, store: str) -> Records:
        here, path = self._here / "records" / store, self.output / f"{store}.zarr"
        records = UploadedRecords(here, path, self._objects, path.name, f"{self._work}/records/{store}")
        self.claims.records.append(records)
        return records

    def look(self, writers: Mapping[str, StoreWriter]) -> bool:
        whole = True
        for writer, records in zip(writers.values(), self.claims.records, strict=True):
            records.look(writer.parts())
            whole &= all(map(writer.has, writer.manifest.blocks()))
        return whole

    def finishing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def publish(self) -> None:
        """Puts there what lies beside the labels, then the description of each store, and clears
        away what the workers needed. Two who do so at once put the same there.
        """
        files = (path.relative_to(self.output).as_posix() for path in self.output.rglob("*") if path.is_file())
        roots = [self._root(store) for store in self._stores]
        self._objects.offer_files(self.output, {file: file for file in files if file not in roots})
        for root in roots:
            self._objects.offer_files(self.output, {root: root})
        say(f"{self.title}: published in {self.place}")

    def clear(self) -> None:
        """Deletes what the workers needed and nobody does now.

        What can't be deleted does no harm.
        """
        try:
            self._objects.delete(sorted(self._objects.sizes(self._work)))
        except StoreError as error:
            say(f"{self.title}: left behind: {error}")

    def _root(self, store: str) -> str:
        return f"{store}.zarr/{DESCRIPTION}"


def _differing(there: bytes, decides: Mapping[str, Any]) -> str:
    """Returns the names of what decides two dumps and is not the same in both."""
    try:
        other = json.loads(there)
    except ValueError:
        return "everything: its description can't be read"
    if not isinstance(other, dict):
        return "everything: its description can't be read"
    names = [name for name in decides if other.get(name) != decides[name]]
    return ", ".join(names) or "what decides it"
