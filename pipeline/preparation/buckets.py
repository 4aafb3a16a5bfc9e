"""Buckets: files that things are dealt into as they come, and that are read one after the other.

That is a sort in two passes, each of which goes through the disk once from front to back. A bucket
is just the bytes of one thing after the other; its owner knows which bucket a thing is in, and
where."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

BUCKET_BYTES = 32 * 1024 * 1024  # read at once
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Buckets:
    """The files `000000.<suffix>` and so on in a folder.

    They are not flushed to the disk: that would be a wait for every bucket, again with every block.
    When the machine stops, the last writes may be lost, which `cut` finds."""

    folder: Path
    suffix: str

    def append(self, buckets: Int64[np.ndarray, " things"], contents: Sequence[bytes]) -> None:
        """Puts each content behind those that are in its bucket already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Sorted by bucket, so that each file is opened once. The sort is stable: the order of
        # arrival is kept.
        order = np.argsort(buckets, kind="stable")
        for run in _runs(buckets[order]):
            some = order[run]
            with self._path(int(buckets[some[0]])).open("ab") as file:
                file.writelines(contents[place] for place in some.tolist())

    def cut(self, lengths: Int64[np.ndarray, " buckets"]) -> bool:
        """Cuts each bucket to its length in bytes; returns whether all were long enough."""
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
        """Yields things, in an order in which those of one bucket follow each other.

        Holds not much more than BUCKET_BYTES: a larger bucket is read in several passes.
        """
        for of_bucket in _runs(buckets):
            # A bucket is larger than planned when the source did not count its images, or they grew
            # on the way.
            parts = max(1, round(int(sizes[of_bucket].sum()) / BUCKET_BYTES))
            for some in np.array_split(of_bucket, min(parts, len(of_bucket))):
                yield from self._read(int(buckets[some[0]]), begins[some], sizes[some])

    def _read(
        self, bucket: int, begins: Int64[np.ndarray, " some"], sizes: Int64[np.ndarray, " some"]
    ) -> Iterator[bytes]:
        # Read from front to back, yielded in the order that was asked for.
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
    """Returns the places of each run of equal numbers."""
    places = np.arange(len(numbers))
    return np.split(places, np.flatnonzero(np.diff(numbers)) + 1) if len(numbers) else []
