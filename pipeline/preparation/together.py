"""The work of `prepare` as several processes share it, from the first piece to the finished splits.

1. Every process fills pieces of the pool that nobody holds.
2. One of them assigns the splits, when all pieces are there.
3. Every process writes parts of the data set that nobody holds (parts.py).

Then all is there but what is small: one process writes that (finish.py) and publishes.
"""

import io
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from pipeline.core.files import write_bytes
from pipeline.core.threads import map_in_order
from pipeline.preparation.assign import PoolSplits
from pipeline.preparation.filling import Filling
from pipeline.preparation.parts import Part
from pipeline.preparation.pool import Pool
from pipeline.preparation.site import Site
from pipeline.preparation.sources.split_names import SPLITS
from pipeline.preparation.split_files import files_of_splits

_WAIT_SECONDS = 0.1
_AT_ONCE = 2  # parts: one waits for the disk while the next is packed


def filled_pool(
    filling: Filling, output: Path, assign: Callable[[Pool], PoolSplits], on_samples: Callable[[int], object]
) -> tuple[Pool, PoolSplits]:
    """Returns the pool with all samples, and the splits, whose files are declared in `output`.

    Args:
        assign: Returns the splits; one process calls it, the others read what it wrote.
    """
    site = filling.site
    while True:
        filling.run(on_samples)
        with site.claims.hold("splits"):
            if (pool := filling.pool()) is None:
                continue  # a piece was damaged when the machine stopped
            if (splits := read_splits(site)) is None:
                splits = assign(pool)
                for files in files_of_splits(output, pool, splits).values():
                    files.create()
                _write_splits(site, splits)
            return pool, splits


def write_parts(site: Site, parts: Mapping[str, Part], on_parts: Callable[[int], object]) -> None:
    """Writes parts of the data set until every one is there, by this process or another.

    Args:
        on_parts: Called with the number of parts since the last call.
    """

    def is_written(name: str) -> bool:
        """Writes a part that nobody holds; returns whether it is there now."""
        note = site.folder / "written" / name
        if note.exists():
            return True
        with site.claims.attempt(name) as mine:
            if mine and not note.exists():
                parts[name]()
                note.parent.mkdir(exist_ok=True)
                note.touch()
            return note.exists()

    waiting = list(parts)
    first = site.worker.first(len(waiting))
    waiting = [*waiting[first:], *waiting[:first]]
    while waiting:
        held_by_others = []
        with closing(map_in_order(is_written, waiting, _AT_ONCE)) as results:
            for one, is_there in zip(waiting, results, strict=True):
                if is_there:
                    on_parts(1)
                else:
                    held_by_others.append(one)
        waiting = held_by_others
        if waiting:
            time.sleep(_WAIT_SECONDS)


def read_splits(site: Site) -> PoolSplits | None:
    """Returns the splits as a process has assigned them; None where none has yet."""
    path = _splits_file(site)
    if not path.exists():
        return None
    with np.load(path) as file:
        return {name: file[name] for name in SPLITS}


def _write_splits(site: Site, splits: PoolSplits) -> None:
    file = io.BytesIO()
    np.savez(file, **dict(splits))  # type: ignore[arg-type]
    write_bytes(_splits_file(site), file.getvalue())


def _splits_file(site: Site) -> Path:
    return site.folder / "splits.npz"
