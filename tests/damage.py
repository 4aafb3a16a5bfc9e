"""Damage to files, as disks and careless copies do it."""

import random
from collections.abc import Iterator
from pathlib import Path


def flipped(path: Path, times: int, seed: int = 0) -> Iterator[int]:
    """Yields after each flip of one bit, drawn again, in a file that is whole otherwise; restores
    it.
    """
    content, rng = path.read_bytes(), random.Random(seed)
    for _ in range(times):
        place = rng.randrange(len(content))
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        yield place
    path.write_bytes(content)
