"""The division of a source into pieces, each of which one process fills.

It depends on the source alone, never on the number of processes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pipeline.preparation.sources.base import Source

_LEAST, _USUAL = 256, 4096  # samples
_FEW, _MOST = 64, 1024  # pieces


@dataclass(frozen=True)
class Range:
    """A range of the samples of a source, by their numbers in its order; `stop` None: all that
    follow, however many they are.
    """

    number: int
    start: int
    stop: int | None

    @property
    def count(self) -> int | None:
        """The number of samples; None where it is not known."""
        return None if self.stop is None else self.stop - self.start

    @property
    def name(self) -> str:
        """The name of its folder and of its claim."""
        return f"{self.number:06}"


def ranges_of(source: Source, raw: Path) -> list[Range]:
    """Returns the pieces of a source: one where its samples are not counted, or where they are in
    one file that is read from the front.
    """
    count = source.count(raw)
    if count is None:
        return [Range(0, 0, None)]
    cuts = [0, *_cuts(count, source.borders(raw))]
    return [Range(number, *borders) for number, borders in enumerate(pairwise(cuts))]


def _cuts(count: int, borders: Sequence[int] | None) -> Iterator[int]:
    """Yields where pieces end: some 64 of them, more where they would be large."""
    step = min(max(_LEAST, -(-count // _FEW)), max(_USUAL, -(-count // _MOST)))
    last = 0
    for border in range(step, count, step) if borders is None else borders:
        if border - last >= step and border < count:
            last = border
            yield border
    if count:
        yield count
