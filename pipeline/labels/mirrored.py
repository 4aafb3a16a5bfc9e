"""Arrays that lie elsewhere, read from a folder that comes to hold their files.

A file that is not what it should be is dropped from the folder and fetched once more, for it may
have been so only when it was fetched, or have been damaged since.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.core.array_files import ARRAY_BYTES, Array, most_bytes
from pipeline.core.arrays import DESCRIPTION, ArrayGroup, Found, Index, open_for_reading
from pipeline.core.errors import StoreError
from pipeline.labels.uploads import ObjectFolder

_FIX = "put a whole store there"


class FetchError(StoreError):
    """A file of a store at a URL did not come: to ask for it once more is no use."""


class Mirror(Protocol):
    """The files of a group that lies elsewhere, in a local folder as far as they were fetched."""

    location: str  # its URL, or the path of a packed store
    folder: Path
    where_damaged: str  # of a file that came damaged twice, in words

    @property
    def objects(self) -> ObjectFolder | None:
        """The folder in which its files can be replaced; None where they can't be."""

    def fetch(self, names: Iterable[str], most_bytes: int, *, again: bool = False) -> None:
        """Fetches files that the folder lacks or, with `again`, all that are named; each has at
        most so many bytes. Raises FetchError.
        """

    def drop(self, names: Iterable[str]) -> None:
        """Removes files from the folder."""

    def signed_again(self) -> None:
        """Takes the description in the folder for the store's, which it has become."""


class MirroredGroup(ArrayGroup):
    """A group whose files a mirror fetches as they are asked for."""

    is_mirror = True

    def __init__(self, mirror: Mirror) -> None:
        super().__init__(mirror.folder, open_for_reading(mirror.folder, mirror.location, _FIX))
        self.location = mirror.location
        self.fix = f"{_FIX} (what is not whole was fetched twice, and is not kept in {mirror.folder})"
        self._mirror = mirror

    def read(self, name: str, *index: int | slice) -> np.ndarray:
        """Returns a range of whole rows; fetches its files first, and again where they turn out
        damaged.

        Raises StoreError where one is lost, or damaged at its URL, too.
        """
        array = self._array(name)
        files = self.part(name, *index)
        self._mirror.fetch(files, most_bytes(array))
        try:
            return super().read(name, *index)
        except StoreError:
            for file in files:
                self._heal(name, array, file)
            return super().read(name, *index)

    def _heal(self, name: str, array: Array, file: str) -> None:
        """Fetches a file of an array again if it is damaged; raises StoreError if it is so at its
        URL, too.
        """
        sizes = array.shards or array.chunks
        places = map(int, Path(file).parts[-len(sizes) :])
        part = tuple(slice(place * size, (place + 1) * size) for place, size in zip(places, sizes, strict=True))
        try:
            super().read(name, *part)
        except StoreError:
            self._mirror.fetch([file], most_bytes(array), again=True)
            try:
                super().read(name, *part)
            except StoreError as error:
                self._mirror.drop([file])
                raise StoreError(
                    f"{self.location}/{file}", f"damaged {self._mirror.where_damaged}", fix=_FIX
                ) from error

    def read_whole(self, name: str) -> np.ndarray:
        return self.read(name)  # what is not there can't be fetched, which is an error

    def files(self, name: str) -> list[str]:
        array = self._array(name)
        self._mirror.fetch(self.part(name), most_bytes(array))
        return super().files(name)

    def writable(self) -> ArrayGroup:
        """Returns the group for changes, which reach the place where its files lie; raises
        StoreError where nothing can be changed there.
        """
        if self._mirror.objects is None:
            found, fix = "is not on this machine's disk, or packed", "repair it where it lies"
            raise StoreError(self.location, found, expected="a folder, or one at s3://, gs:// or az://", fix=fix)
        return _UploadedGroup(self._mirror, self._mirror.objects)

    def checked(self, act: Callable[[], Found], files: Mapping[str, Index | None]) -> Found:
        try:
            return act()
        except FetchError:
            raise
        except StoreError:
            self._fetch_again(files)
        try:
            return act()
        except StoreError:
            self._drop(files)
            raise

    def _fetch_again(self, files: Mapping[str, Index | None]) -> None:
        for name, index in files.items():
            self._opened.pop(name, None)
            self._mirror.fetch([f"{name}/{DESCRIPTION}"], ARRAY_BYTES, again=True)
            if index is not None:
                array = self._array(name)
                self._mirror.fetch(self.part(name, *index), most_bytes(array), again=True)

    def _drop(self, files: Mapping[str, Index | None]) -> None:
        for name, index in files.items():
            if index is not None:
                self._mirror.drop(self.part(name, *index))
            self._mirror.drop([f"{name}/{DESCRIPTION}"])
            self._opened.pop(name, None)

    def _array(self, name: str) -> Array:
        description = f"{name}/{DESCRIPTION}"
        self._mirror.fetch([description], ARRAY_BYTES)
        try:
            return super()._array(name)
        except StoreError:
            self._mirror.fetch([description], ARRAY_BYTES, again=True)
            return super()._array(name)


class _UploadedGroup(ArrayGroup):
    """A group whose changes are made in the folder of a mirror, and then where its files lie."""

    def __init__(self, mirror: Mirror, objects: ObjectFolder) -> None:
        super().__init__(mirror.folder, ArrayGroup.reopen(mirror.folder)._group)
        self._mirror, self._objects = mirror, objects

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        super().set_attributes(attributes)
        self._upload([DESCRIPTION])
        self._mirror.signed_again()

    def create_array(self, name: str, *arguments: Any, **settings: Any) -> None:
        super().create_array(name, *arguments, **settings)
        self._upload([f"{name}/{DESCRIPTION}"])

    def write(self, name: str, data: np.ndarray, *index: int | slice) -> None:
        super().write(name, data, *index)
        self._upload(self.part(name, *index))

    def drop(self, name: str, *index: int | slice) -> None:
        super().drop(name, *index)
        self._objects.delete(self.part(name, *index))

    def _upload(self, names: Iterable[str]) -> None:
        for name in names:
            self._objects.put(name, (self.path / name).read_bytes())
