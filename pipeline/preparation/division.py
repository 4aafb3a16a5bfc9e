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
    """A range of the samples of a source, by their numbers in its order.

    Attributes:
        count: None for the last one, which has all that follow, however many they are.
        expected: How many it probably has; None: not known.
    """

    number: int
    start: int
    count: int | None
    expected: int | None

    @property
    def name(self) -> str:
        """The name of its folder and of its claim."""
        return f"{self.number:06}"

    @property
    def is_all(self) -> bool:
        """Whether it is all of the source."""
        return self.number == 0 and self.count is None


def ranges_of(source: Source, raw: Path) -> list[Range]:
    """Returns the pieces of a source: one where its samples are not counted, or where they are in
    one file that is read from the front.
    """
    count = source.count(raw)
    if count is None:
        return [Range(0, 0, None, None)]
    starts = [0, *_cuts(count, source.borders(raw))]
    counts = [stop - start for start, stop in pairwise([*starts, count])]
    last = len(starts) - 1
    return [
        Range(number, start, None if number == last else counts[number], counts[number])
        for number, start in enumerate(starts)
    ]


def _cuts(count: int, borders: Sequence[int] | None) -> Iterator[int]:
    """Yields where pieces after the first begin: some 64 of them, more where they would be
    large.
    """
    step = min(max(_LEAST, -(-count // _FEW)), max(_USUAL, -(-count // _MOST)))
    last = 0
    for border in range(step, count, step) if borders is None else borders:
        if border - last >= step and border < count:
            last = border
            yield border
