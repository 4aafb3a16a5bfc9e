"""Buckets: files that things are dealt into as they come, and that are read one after the other.

That is a sort in two passes, each of which goes through the disk once from front to back. A bucket
is just the bytes of one thing after the other; its owner knows which bucket a thing is in, and
where."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

BUCKET_BYTES = 32 * 1024 * 1024  # read at once
_WRITE_BYTES = 1024 * 1024  # at once: many things are small
_MOST_SPREAD = 2  # times as much is read as is wanted, to read it at once


@dataclass(frozen=True)
class Buckets:
    """The files `000000.<suffix>` and so on in a folder.

    They are not flushed to the disk: that would be a wait for every bucket, again with every block.
    When the machine stops, the last writes may be lost, which `cut` finds."""

    folder: Path
    suffix: str

    def append(self, buckets: Int64[np.ndarray, " things"], contents: Sequence[bytes | memoryview]) -> None:
        """Puts each content behind those that are in its bucket already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Sorted by bucket, so that each file is opened once. The sort is stable: the order of
        # arrival is kept.
        order = np.argsort(buckets, kind="stable")
        for run in _runs(buckets[order]):
            some = order[run]
            with self.path(int(buckets[some[0]])).open("ab", _WRITE_BYTES) as file:
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

    def path(self, number: int) -> Path:
        """Returns the file of a bucket."""
        return self.folder / f"{number:06}.{self.suffix}"


def read_things(
    path: Callable[[int], Path],
    files: Int64[np.ndarray, " some"],
    begins: Int64[np.ndarray, " some"],
    sizes: Int64[np.ndarray, " some"],
) -> Iterator[bytes]:
    """Yields things from the files of buckets, in the order in which they are given.

    Holds not much more than BUCKET_BYTES: so many bytes of things are read before the first of them
    is yielded, each file from front to back. That is fast where neighbours are in the same bucket
    of their piece.

    Args:
        path: Returns the path of a file by its number in `files`.
    """
    passes = (np.cumsum(sizes) - sizes) // BUCKET_BYTES
    for some in _runs(passes):
        yield from _read(path, files[some], begins[some], sizes[some])


def read_rows(
    path: Callable[[int], Path],
    files: Int64[np.ndarray, " some"],
    begins: Int64[np.ndarray, " some"],
    size: int,
) -> Iterator[UInt8[np.ndarray, "_ {size}"]]:
    """Yields things of one size as `read_things` does, some at a time, each read to its place: of
    small things that takes a third of the time.

    The bytes behind the end of a file are whatever they are.
    """
    at_once = max(1, BUCKET_BYTES // 2 // size)  # whoever takes them holds the last ones meanwhile
    for start in range(0, len(files), at_once):
        some, places = files[start : start + at_once], begins[start : start + at_once]
        rows = np.empty((len(some), size), np.uint8)
        order = np.lexsort((places, some))
        for run in _runs(some[order]):
            things = order[run]
            with path(int(some[things[0]])).open("rb", buffering=0) as file:
                handle = file.fileno()
                for thing, place in zip(things.tolist(), places[things].tolist(), strict=True):
                    os.preadv(handle, [rows[thing]], place)
        yield rows


def _read(
    path: Callable[[int], Path],
    files: Int64[np.ndarray, " some"],
    begins: Int64[np.ndarray, " some"],
    sizes: Int64[np.ndarray, " some"],
) -> Iterator[bytes]:
    found: list[bytes] = [b""] * len(files)
    order = np.lexsort((begins, files))
    for run in _runs(files[order]):
        things = order[run]
        start, ends = int(begins[things[0]]), begins[things] + sizes[things]
        span = int(ends.max()) - start
        with path(int(files[things[0]])).open("rb", buffering=0) as file:
            if span <= _MOST_SPREAD * int(sizes[things].sum()):
                content = os.pread(file.fileno(), span, start)
                for thing, begin, end in zip(things.tolist(), begins[things].tolist(), ends.tolist(), strict=True):
                    found[thing] = content[begin - start : end - start]
            else:
                for thing in things.tolist():
                    found[thing] = os.pread(file.fileno(), int(sizes[thing]), int(begins[thing]))
    for place in range(len(found)):
        yield found[place]
        found[place] = b""


def _runs(numbers: Int64[np.ndarray, " some"]) -> list[Int64[np.ndarray, " places"]]:
    """Returns the places of each run of equal numbers."""
    places = np.arange(len(numbers))
    return np.split(places, np.flatnonzero(np.diff(numbers)) + 1) if len(numbers) else []
