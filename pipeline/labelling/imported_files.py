"""Files of a teacher that ran elsewhere: a row of numbers for each sample, with a sample id or a
key of `samples.tsv`.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped, UInt64

from pipeline.core.errors import ModelError
from pipeline.core.plain_files import read_packed
from pipeline.labelling.imported_ids import match_ids, read_ids
from pipeline.labelling.parquet_files import open_parquet

What = Literal["logits", "embeddings"]

_ID_NAMES = ("sample_id", "sample_ids", "key", "keys", "id", "ids")
#: The usual names of the array or column that holds them.
_NAMES: dict[What, tuple[str, ...]] = {
    "logits": ("logits", "probabilities", "probs", "log_probs"),
    "embeddings": ("embeddings", "embedding", "features"),
}
#: One number of a row, and all of them, in words.
_NUMBER_OF: dict[What, tuple[str, str]] = {"logits": ("class", "classes"), "embeddings": ("dimension", "dimensions")}


@dataclass(frozen=True)
class ImportedRows:
    """The rows of a file; those of a `.npy` file stay on disk.

    Attributes:
        names: The names of the columns, where each is one number of a row.
    """

    where: Path
    values: Shaped[np.ndarray, "rows numbers"]
    sample_ids: UInt64[np.ndarray, " rows"]
    names: list[str] | None


def refuse_wrong(
    rows: ImportedRows,
    chosen: Int64[np.ndarray, " some"],
    values: Float[torch.Tensor, "some numbers"],
    wrong: Bool[torch.Tensor, "some numbers"],
    expected: str,
) -> None:
    """Raises ModelError with the first of some rows that holds a wrong value."""
    if wrong.any():
        row = int(chosen[int(torch.nonzero(wrong)[0, 0])])
        found = f"row {row} (sample {int(rows.sample_ids[row]):016x}) holds {float(values[wrong][0]):g}"
        raise ModelError(rows.where, found, expected=expected)


def read_rows(path: Path, ids: str | None, samples: Path, what: What) -> ImportedRows:
    """Reads the rows in a `.parquet`, `.npz` or `.npy` file.

    Raises ModelError or DataError where there are none, or where they can't be matched to samples.

    Args:
        ids: The column or array that names the sample of each row, or a file with one in a line;
            None: the one that has a usual name.
        samples: The list `samples.tsv` of a data set, for keys.
    """
    if not path.is_file():
        raise ModelError(path, "no such file", expected=f"{what}: a .parquet, .npz or .npy file")
    beside = Path(ids) if ids is not None and Path(ids).is_file() else None
    if path.suffix not in _READERS:
        raise ModelError(path, f"ends in {path.suffix!r}", expected="a .parquet, .npz or .npy file")
    values, rows, names = _READERS[path.suffix](path, what, _id_names(ids) if beside is None else ())
    rows = read_ids(beside) if beside else rows
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        found = f"its values are {values.dtype} of shape {list(values.shape)}"
        raise ModelError(path, found, expected=f"floats, [samples, {_NUMBER_OF[what][1]}]")
    if len(rows) != len(values):
        raise ModelError(path, f"{len(values):,} rows of {what}, and {len(rows):,} ids", expected="one for each")
    return ImportedRows(path, values, match_ids(rows, samples, path), names)


def _id_names(ids: str | None) -> tuple[str, ...]:
    return (ids,) if ids else _ID_NAMES


Read = tuple[np.ndarray, Sequence[Any], list[str] | None]  # values, ids, names of outputs


def _read_npy(path: Path, what: What, id_names: Sequence[str]) -> Read:
    """Reads an array, which has no ids; they are in another file."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ModelError(path, f"not a .npy file of numbers ({error})") from None
    if id_names:
        expected = "a file of sample ids or keys, one in a line, in the order of the rows"
        raise ModelError("--ids", "not given" if id_names == _ID_NAMES else "no such file", expected=expected)
    return values, (), None


def _read_npz(path: Path, what: What, id_names: Sequence[str]) -> Read:
    """Reads an array of several, and the one of ids unless these are in another file."""
    try:
        with path.open("rb") as file:  # numpy leaves it open where it is no .npz file
            packed = np.load(file, allow_pickle=False)
            values = read_packed(packed, _choose(_NAMES[what], list(packed), what, path))
            return (
                values,
                read_packed(packed, _choose(id_names, list(packed), "ids", path)).tolist() if id_names else (),
                None,
            )
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(path, f"not a .npz file of numbers ({error})") from None


def _read_parquet(path: Path, what: What, id_names: Sequence[str]) -> Read:
    """Reads a column of lists, or a column for each number of a row."""
    with open_parquet(path) as file:
        from pyarrow import types

        table = file.read()
    rows: Sequence[Any] = ()
    if id_names:
        column = _choose(id_names, table.column_names, "ids", path)
        rows, table = table[column].to_pylist(), table.drop_columns([column])
    kinds = {name: table.schema.field(name).type for name in table.column_names}
    are_lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    if lists := [name for name, kind in kinds.items() if any(is_one(kind) for is_one in are_lists)]:
        column = table[_choose(_NAMES[what], lists, what, path)].combine_chunks()
        sizes = np.diff(np.asarray(column.offsets)) if hasattr(column, "offsets") else [column.type.list_size]
        if column.null_count or len(set(map(int, sizes))) != 1:
            raise ModelError(
                path,
                f"lists of {what} of several lengths, or none",
                expected=f"one for each {_NUMBER_OF[what][0]} in all",
            )
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), -1), rows, None
    numbers = [name for name, kind in kinds.items() if types.is_floating(kind)]
    if not numbers:
        expected = f"{what}: lists, or a column a {_NUMBER_OF[what][0]}"
        raise ModelError(path, f"columns {', '.join(table.column_names)}", expected=expected)
    return np.stack([table[name].to_numpy() for name in numbers], axis=1), rows, numbers


def _choose(wanted: Sequence[str], there: Sequence[str], what: str, path: Path) -> str:
    """Returns the first of some names that is there, or else the only one."""
    if found := [name for name in wanted if name in there]:
        return found[0]
    if what != "ids" and len(there) == 1:
        return there[0]
    raise ModelError(path, f"holds {', '.join(there)}", expected=f"{what}: {' or '.join(wanted)}")


_READERS = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}
