"""Records of what was written of a store: a block counts as written when its record is there.

Records lie in a folder beside the store, on its disk. Where a store is written to an object store,
a block and its record are made on this machine's disk, put there in this order, and the block is
deleted here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.progress import say
from pipeline.core.sealed import read_sealed, write_sealed
from pipeline.labels.uploads import ObjectFolder


class Records:
    """The records of a store that is written to a disk, by name.

    Several processes may write records if each has one owner at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """The folder in which they lie."""
        return self._folder

    def unchecked(self) -> set[str]:
        """Returns those of blocks that an earlier run left, which may be lost or damaged since."""
        return {record.stem for record in self._folder.glob("[0-9]*-*.json")}

    def has(self, name: str) -> bool:
        """Returns whether a record is known."""
        return self._file(name).exists()

    def asked(self, name: str) -> bool:
        """Returns whether there is a record now, whoever wrote it."""
        return self.has(name)

    def read(self, name: str) -> dict[str, Any]:
        """Returns a record; raises DataError where it is lost or damaged."""
        return read_sealed(self._file(name), made_by="dump_labels")

    def write(self, name: str, record: Mapping[str, Any], files: Sequence[str], *, keeps: bool = False) -> None:
        """Commits the files of a block, and then its record.

        Args:
            files: By their paths in the store.
            keeps: Whether they will be read here.
        """
        write_sealed(self._file(name), record, indent=None)  # small, and quickly encoded

    def forget(self, name: str, files: Sequence[str]) -> None:
        """Removes a record, since its files are lost or damaged."""
        self._file(name).unlink(missing_ok=True)

    def fetch(self, files: Sequence[str]) -> None:
        """Brings files of a store here where they are not, and are to be had."""

    def read_ahead(self) -> None:
        """Gets all known records at once that would come one by one."""

    def sizes(self) -> dict[str, int]:
        """Returns the bytes of each file of the store that is not here."""
        return {}

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"


class UploadedRecords(Records):
    """The records of a store that is written to an object store.

    Attributes:
        met: Whether a block turned out to be made by another worker meanwhile.

    Args:
        folder: For what is not uploaded yet, on this machine.
        path: Where the store itself is begun, on this machine.
        store: Its folder among the objects.
        prefix: The folder of the records among the objects.
    """

    def __init__(self, folder: Path, path: Path, objects: ObjectFolder, store: str, prefix: str) -> None:
        super().__init__(folder)
        self._path, self._objects, self._store, self._prefix = path, objects, store, prefix
        self._known: set[str] = set()
        self._sizes: dict[str, int] = {}
        self.met = False

    def unchecked(self) -> set[str]:
        return set()  # object stores keep what they have; what is lost all the same is found by `look`

    def look(self, parts: Mapping[str, Sequence[str]]) -> None:
        """Finds out which blocks are there; forgets those of which a file is lost.

        Args:
            parts: The files of each block, by the name of its record.
        """
        # The records first: their files were there before them.
        listed = {Path(name).stem for name in self._objects.sizes(self._prefix)}
        sizes = self._objects.sizes(self._store)
        self._sizes = {name.removeprefix(f"{self._store}/"): size for name, size in sizes.items()}
        self._known = set()
        for name, files in parts.items():
            if name not in listed:
                continue
            if lost := [file for file in files if not self._sizes.get(file)]:
                say(f"{self._objects.place}/{self._store}: {lost[0]} is lost: its block is made again")
                self.forget(name, files)
            else:
                self._known.add(name)

    def has(self, name: str) -> bool:
        return name in self._known

    def asked(self, name: str) -> bool:
        if name not in self._known and self._objects.has(self._object(name)):
            self._known.add(name)
            self.met = True
        return name in self._known

    def read(self, name: str) -> dict[str, Any]:
        if not self._file(name).exists() and (content := self._objects.read(self._object(name))) is not None:
            self._keep(name, content)
        return super().read(name)

    def write(self, name: str, record: Mapping[str, Any], files: Sequence[str], *, keeps: bool = False) -> None:
        if not self._objects.offer_files(self._path, {f"{self._store}/{file}": file for file in files}):
            self.met = True
        self._sizes |= {file: (self._path / file).stat().st_size for file in files}
        super().write(name, record, files)
        self._objects.offer(self._object(name), self._file(name).read_bytes())
        self._known.add(name)
        for file in () if keeps else files:
            (self._path / file).unlink()

    def forget(self, name: str, files: Sequence[str]) -> None:
        super().forget(name, files)
        self._known.discard(name)
        self._objects.delete([self._object(name), *(f"{self._store}/{file}" for file in files)])

    def fetch(self, files: Sequence[str]) -> None:
        for file in files:
            path = self._path / file
            if not path.exists() and (content := self._objects.read(f"{self._store}/{file}")) is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def read_ahead(self) -> None:
        lacking = [name for name in sorted(self._known) if not self._file(name).exists()]
        found = self._objects.read_all(map(self._object, lacking))
        for name in lacking:
            if self._object(name) in found:
                self._keep(name, found[self._object(name)])

    def sizes(self) -> dict[str, int]:
        return self._sizes

    def _keep(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file(name).write_bytes(content)

    def _object(self, name: str) -> str:
        return f"{self._prefix}/{name}.json"
