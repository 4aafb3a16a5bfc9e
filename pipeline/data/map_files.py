"""Maps of classes on disk: a NumPy file beside the split's Zarr group, which need not be held.

`train.maps.npy` is int16 [samples, height, width]. It is not compressed, so that the maps of any
rows are read as they are asked for.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int16
from numpy.lib.format import open_memmap

from pipeline.core.errors import DataError
from pipeline.core.files import sync_folder
from pipeline.data.sample_ids import FIX

Maps = Int16[np.ndarray, "samples height width"]


def maps_path(group: Path) -> Path:
    """Returns the place of the maps of a split, given that of its Zarr group."""
    return group.with_name(f"{group.stem}.maps.npy")


def write_maps(path: Path, shape: tuple[int, ...], maps: Iterable[Maps]) -> None:
    """Writes maps that come in pieces; the file takes its name when it is whole."""
    partial = path.with_name(f"{path.name}.partial")
    file = open_memmap(partial, mode="w+", dtype=np.dtype("<i2"), shape=shape)
    done = 0
    for some in maps:
        file[done : done + len(some)] = some
        done += len(some)
    assert done == len(file), "every map has come"
    file.flush()
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def read_maps(path: Path, *, is_held: bool) -> Maps:
    """Returns the maps of a split, in memory or as the file has them.

    Raises DataError where the file is lost or damaged. The content is for the caller to check.
    """
    try:
        found = np.load(path, mmap_mode=None if is_held else "c")
    except FileNotFoundError:
        raise DataError(path, "no such file", fix=FIX) from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(path, f"not a whole NumPy file ({error})", fix=FIX) from None
    if found.dtype != np.dtype("<i2") or found.ndim != 3:
        raise DataError(path, f"{found.dtype} {list(found.shape)}", expected="maps of classes, int16", fix=FIX)
    maps: Maps = found
    return maps
