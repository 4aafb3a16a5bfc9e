"""NumPy arrays in files of torch.save, read without executing anything."""

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.core.errors import DataError
from pipeline.core.plain_files import odd_file

_MOST_BYTES = 64 << 20
_KINDS = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
_REBUILD: Any = np._core.multiarray._reconstruct  # type: ignore[attr-defined]
#: What an array of numbers is pickled as; files that NumPy 1 wrote call it by another name.
_HARMLESS: list[Any] = [
    (_REBUILD, "numpy.core.multiarray._reconstruct"),
    (_REBUILD, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in _KINDS),
]


def read_torch_arrays(path: Path) -> list[np.ndarray]:
    """Returns the arrays of a list that torch.save wrote; a tensor counts as an array.

    Raises DataError where the file is too large, damaged, or holds anything else.
    """
    expected = "a list of arrays, written by torch.save"
    if odd := odd_file(path, _MOST_BYTES):
        raise DataError(path, odd, expected=expected)
    content = path.read_bytes()
    try:
        _need_unpacked_small(content)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore")
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = (
            str(error).splitlines()[-1] if "GLOBAL" not in str(error) else "something that would have to be executed"
        )
        raise DataError(path, f"holds {reason}, and was not executed", expected=expected) from None
    except Exception as error:  # damaged bytes may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(path, f"can't be read ({reason})", expected=expected) from None
    if not isinstance(found, list | tuple):
        raise DataError(path, f"holds a {type(found).__name__}", expected=expected)
    return [_as_array(each, path) for each in found]


def _need_unpacked_small(content: bytes) -> None:
    """Raises ValueError where what is packed in a file is larger than a file may be."""
    if content[:2] == b"PK":
        size = sum(member.file_size for member in zipfile.ZipFile(io.BytesIO(content)).infolist())
        if size > _MOST_BYTES:
            raise ValueError(f"{size:,} bytes unpacked, of at most {_MOST_BYTES:,}")


def _as_array(value: object, path: Path) -> np.ndarray:
    array = value.numpy() if isinstance(value, torch.Tensor) else value
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise DataError(path, f"holds a {type(value).__name__} in its list", expected="arrays of numbers")
    return array
