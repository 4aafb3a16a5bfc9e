"""Arrays in HDF5 files, looked at before they are read; the one file that imports h5py.

An HDF5 file may point at other files, and name filters that are loaded as code.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.plain_files import odd_file

_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32_000: "lzf"}  # those that h5py brings
_EXPECTED = "an HDF5 file"


@contextmanager
def open_arrays(path: Path, names: tuple[str, ...]) -> Iterator[list[Any]]:
    """Gives the arrays of some names at the top of a file, to be read in slices.

    Raises DataError where the file is damaged, lacks one, or keeps it elsewhere.
    """
    try:
        import h5py
    except ImportError as error:
        fix = "install the extra `data` (`pip install -c constraints.txt .[data]`)"
        raise DataError(path, f"h5py, which reads HDF5, can't be imported ({error})", fix=fix) from None
    if odd := odd_file(path):
        raise DataError(path, odd, expected=_EXPECTED)
    with ExitStack() as opened:
        with _faults(path):
            file = opened.enter_context(h5py.File(path, "r"))
            arrays = [_array(file, name, path, h5py) for name in names]
        yield arrays


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # damaged bytes may raise anything
        raise DataError(path, f"not a sound HDF5 file ({error})", expected=_EXPECTED) from None


def _array(file: Any, name: str, path: Path, h5py: Any) -> Any:
    if name not in file:
        raise DataError(path, f"holds {', '.join(sorted(map(str, file))) or 'nothing'}", expected=f"an array {name!r}")
    array = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(array, h5py.Dataset) or array.external or array.is_virtual:
        raise DataError(path, f"{name!r} is no array in this file", expected="arrays, not links to elsewhere")
    settings = array.id.get_create_plist()
    filters = [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]
    if odd := [each for each in filters if each not in _FILTERS]:
        raise DataError(path, f"{name!r} is packed by filter {odd[0]}", expected=", ".join(_FILTERS.values()))
    if array.dtype.kind not in "iuf":
        raise DataError(path, f"{name!r} holds {array.dtype}", expected="numbers")
    return array


def some_rows(array: Any, start: int, stop: int, path: Path) -> np.ndarray:
    """Returns some rows of an array in a file; raises DataError where they are damaged."""
    with _faults(path):
        rows: np.ndarray = array[start:stop]
    return rows
