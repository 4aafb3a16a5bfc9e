"""Buckets: files that things are dealt into as they come, and that are read one after the other.

That is a sort in two passes, each of which goes through the disk once from front to back. Which bucket something is in
and where, its owner knows; a bucket is just the bytes of one thing after the other.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

BUCKET_BYTES = 32 * 1024 * 1024  # what is read at once
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Buckets:
    """The files `000000.<suffix>` and so on in a folder.

    They are not flushed to the disk, for that would be as many waits as there are buckets, again and again. When the
    machine stops, what was written last may be lost: `cut` tells.
    """

    folder: Path
    suffix: str

    def append(self, buckets: Int64[np.ndarray, " things"], contents: Sequence[bytes]) -> None:
        """Puts each content behind those that are in its bucket already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        order = np.argsort(buckets, kind="stable")
        for run in _runs(buckets[order]):
            some = order[run]
            with self._path(int(buckets[some[0]])).open("ab") as file:
                file.writelines(contents[place] for place in some.tolist())

    def cut(self, lengths: Int64[np.ndarray, " buckets"]) -> bool:
        """Takes away what is behind these lengths in bytes; whether each bucket is so long."""
        found = np.zeros_like(lengths)
        for path in self.folder.glob(f"*.{self.suffix}"):
            number, size = int(path.stem), path.stat().st_size
            if size > lengths[number]:
                os.truncate(path, lengths[number])
            found[number] = size
        return bool((found >= lengths).all())

    def read(
        self,
        buckets: Int64[np.ndarray, " some"],
        begins: Int64[np.ndarray, " some"],
        sizes: Int64[np.ndarray, " some"],
    ) -> Iterator[bytes]:
        """Things in any order in which those of a bucket follow each other, holding not much more than BUCKET_BYTES.

        A bucket that became larger than that is read as often as it has to be.
        """
        for of_bucket in _runs(buckets):
            parts = max(1, round(int(sizes[of_bucket].sum()) / BUCKET_BYTES))
            for some in np.array_split(of_bucket, min(parts, len(of_bucket))):
                yield from self._read(int(buckets[some[0]]), begins[some], sizes[some])

    def _read(
        self, bucket: int, begins: Int64[np.ndarray, " some"], sizes: Int64[np.ndarray, " some"]
    ) -> Iterator[bytes]:
        found: dict[int, bytes] = {}
        with self._path(bucket).open("rb", buffering=_BUFFER_BYTES) as file:
            for place in np.argsort(begins).tolist():
                file.seek(begins[place])
                found[place] = file.read(sizes[place])
        for place in range(len(begins)):
            yield found.pop(place)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.{self.suffix}"


def _runs(numbers: Int64[np.ndarray, " some"]) -> list[Int64[np.ndarray, " places"]]:
    """The places of equal numbers that follow each other."""
    places = np.arange(len(numbers))
    return np.split(places, np.flatnonzero(np.diff(numbers)) + 1) if len(numbers) else []
