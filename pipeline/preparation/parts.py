"""The parts of a data set beside the small ones: each is written by one process, and none needs
another.

1. The list of samples.
2. The files of each split's inputs.
3. The rest of each split: hard labels and sample ids.
4. The levels of the pixels that were held out or dropped, for the statistics of the others.
"""

import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64

from pipeline.core.files import write_bytes
from pipeline.preparation.assign import PoolSplits
from pipeline.preparation.lists import write_samples
from pipeline.preparation.pool import Pool
from pipeline.preparation.site import Site
from pipeline.preparation.sources.split_names import SPLITS
from pipeline.preparation.split_files import SplitFiles

#: A function that writes a part and flushes it.
Part: TypeAlias = Callable[[], object]

_NOT_TRAINED_ON = ("val", "test", "dropped")


def parts_of(
    site: Site, output: Path, pool: Pool, splits: PoolSplits, files: Mapping[str, SplitFiles]
) -> dict[str, Part]:
    """Returns the parts of a data set by name.

    Args:
        output: The folder of the data set.
    """
    parts: dict[str, Part] = {"samples": partial(write_samples, output / "samples.tsv", pool, splits)}
    for name, split in files.items():
        for number in range(len(split)):
            parts[f"{name}-{number:06}"] = partial(split.write, number)
        parts[f"{name}-rest"] = split.finish
    for name in _NOT_TRAINED_ON:
        parts[f"{name}-levels"] = partial(_write_levels, _levels_file(site, name), pool, splits, name)
    return parts


def training_levels(site: Site, pool: Pool) -> Int64[np.ndarray, "channels 256"]:
    """Returns how often each pixel level is in the training images, when all parts are there."""
    # The pool counted levels while it was filled, so only the images that were held out or dropped
    # have been read for this: they are not trained on.
    levels = pool.levels()
    for name in _NOT_TRAINED_ON:
        levels -= np.load(_levels_file(site, name))
    return levels


def _write_levels(path: Path, pool: Pool, splits: PoolSplits, name: str) -> None:
    some = splits[name] if name in splits else _dropped(pool, splits)
    given = pool.column("splits")[some]
    file = io.BytesIO()
    np.save(file, pool.count_levels(some[given == SPLITS.index("train")]))
    write_bytes(path, file.getvalue())


def _levels_file(site: Site, name: str) -> Path:
    return site.folder / f"levels-{name}.npy"


def _dropped(pool: Pool, splits: PoolSplits) -> Int64[np.ndarray, " dropped"]:
    """Returns the images that are in no split, in the order of rows."""
    kept = np.concatenate(list(splits.values()))
    order = pool.order() if len(kept) < len(pool.column("sizes")) else np.empty(0, np.int64)  # a sort of all
    return order[~np.isin(order, kept)]
