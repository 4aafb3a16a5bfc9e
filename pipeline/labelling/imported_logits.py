"""Logits of a teacher that ran elsewhere, each row with a sample id or a key of `samples.tsv`."""

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt64

from pipeline.core.errors import DataError, ModelError
from pipeline.core.plain_files import read_packed, text_lines
from pipeline.core.tables import read_lines
from pipeline.core.text import composed
from pipeline.labelling.parquet_files import open_parquet
from pipeline.models.output_kinds import SUM_TOLERANCE, OutputKind, are_distributions, as_logits
from pipeline.signals import Signal
from pipeline.signals.categorical import CATEGORICAL

_ID_NAMES = ("sample_id", "sample_ids", "key", "keys", "id", "ids")
_LOGIT_NAMES = ("logits", "probabilities", "probs", "log_probs")


@dataclass(frozen=True)
class ImportedLogits:
    """The logits of a teacher that ran elsewhere, row by row; those of a `.npy` file stay on disk.

    Attributes:
        output_names: The names of the outputs, where the file has them.
        are_probabilities: Whether the values are probabilities, not logits.
        digest: The fingerprint of the values, where `where` is no file.
        note: A line about what the values stand for, where that is not the image as it is.
        signal: The meaning of the data's classes.
    """

    where: Path
    values: Shaped[np.ndarray, "rows outputs"]
    sample_ids: UInt64[np.ndarray, " rows"]
    output_names: list[str] | None
    are_probabilities: bool
    digest: str | None = None
    note: str | None = None
    signal: Signal = CATEGORICAL

    def take(self, rows: Int64[np.ndarray, " some"]) -> Float[torch.Tensor, "some outputs"]:
        """Returns finite logits of some rows; raises ModelError with the first that has none."""
        values = torch.from_numpy(np.asarray(self.values[rows], dtype=np.float32))
        wrong = ~torch.isfinite(values)
        if self.are_probabilities:
            wrong |= (values < 0) | (values > 1 + SUM_TOLERANCE)
        if wrong.any():
            row = int(rows[int(torch.nonzero(wrong)[0, 0])])
            expected = "probabilities, 0 to 1" if self.are_probabilities else "finite logits"
            found = f"row {row} (sample {int(self.sample_ids[row]):016x}) holds {float(values[wrong][0]):g}"
            raise ModelError(self.where, found, expected=expected)
        probabilities: OutputKind = "sigmoids" if self.signal.is_independent else "probabilities"
        return as_logits(values, probabilities if self.are_probabilities else "logits")

    def check_kind(self, rows: Int64[np.ndarray, " some"]) -> None:
        """Raises ModelError where the values of some rows are probabilities and are not said to be,
        or the reverse.
        """
        values = torch.from_numpy(np.asarray(self.values[rows], dtype=np.float64))
        if self.signal.is_independent:  # each probability is one by itself; `take` checks that it is
            if not self.are_probabilities and bool(((values >= 0) & (values <= 1)).all()):
                raise ModelError(
                    self.where, "all are within 0 and 1: these are probabilities", fix="say --probabilities"
                )
            return
        sum_up = are_distributions(values)
        if sum_up and not self.are_probabilities:
            raise ModelError(self.where, "rows sum up to 1: these are probabilities", fix="say --probabilities")
        if self.are_probabilities and not sum_up:
            raise ModelError(
                self.where, "rows do not sum up to 1", expected="probabilities", fix="leave out --probabilities"
            )


def read_logits(path: Path, ids: str | None, samples: Path, *, are_probabilities: bool) -> ImportedLogits:
    """Reads the logits in a `.parquet`, `.npz` or `.npy` file.

    Raises ModelError or DataError where there are none, or where rows can't be matched to samples.

    Args:
        ids: The column or array that names the sample of each row, or a file with one in a line;
            None: the one that has a usual name.
        samples: The list `samples.tsv` of a data set, for keys.
    """
    if not path.is_file():
        raise ModelError(path, "no such file", expected="logits: a .parquet, .npz or .npy file")
    beside = Path(ids) if ids is not None and Path(ids).is_file() else None
    if path.suffix == ".parquet":
        values, rows, names = _read_parquet(path, None if beside else ids, with_ids=beside is None)
    elif path.suffix in {".npz", ".npy"}:
        values, rows, names = _read_numpy(path, None if beside else ids, with_ids=beside is None)
    else:
        raise ModelError(path, f"ends in {path.suffix!r}", expected="a .parquet, .npz or .npy file")
    rows = _read_ids(beside) if beside else rows
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        found = f"its values are {values.dtype} of shape {list(values.shape)}"
        raise ModelError(path, found, expected="floats, [samples, classes]")
    if len(rows) != len(values):
        raise ModelError(path, f"{len(values):,} rows of logits, and {len(rows):,} ids", expected="one for each")
    return ImportedLogits(path, values, _sample_ids(rows, samples, path), names, are_probabilities)


Read = tuple[np.ndarray, Sequence[Any], list[str] | None]  # values, ids, names of outputs


def _read_numpy(path: Path, ids: str | None, *, with_ids: bool) -> Read:
    try:
        if path.suffix == ".npy":
            arrays = {"logits": np.load(path, mmap_mode="r", allow_pickle=False)}
        else:
            with path.open("rb") as file:  # numpy leaves it open where it is no .npz file
                packed = np.load(file, allow_pickle=False)
                arrays = {name: read_packed(packed, name) for name in packed}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(path, f"not a {path.suffix} file of numbers ({error})") from None
    values = arrays[_choose(_LOGIT_NAMES, list(arrays), "logits", path)]
    if not with_ids:
        return values, (), None
    if path.suffix == ".npy":
        expected = "a file of sample ids or keys, one in a line, in the order of the rows"
        raise ModelError("--ids", "no such file" if ids else "not given", expected=expected)
    return values, arrays[_choose((ids,) if ids else _ID_NAMES, list(arrays), "ids", path)].tolist(), None


def _read_parquet(path: Path, ids: str | None, *, with_ids: bool) -> Read:
    """Reads a column of lists, or a column for each class that is called like it."""
    with open_parquet(path) as file:
        from pyarrow import types

        table = file.read()
    rows: Sequence[Any] = ()
    if with_ids:
        column = _choose((ids,) if ids else _ID_NAMES, table.column_names, "ids", path)
        rows, table = table[column].to_pylist(), table.drop_columns([column])
    kinds = {name: table.schema.field(name).type for name in table.column_names}
    are_lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    if lists := [name for name, kind in kinds.items() if any(is_one(kind) for is_one in are_lists)]:
        column = table[_choose(_LOGIT_NAMES, lists, "logits", path)].combine_chunks()
        sizes = np.diff(np.asarray(column.offsets)) if hasattr(column, "offsets") else [column.type.list_size]
        if column.null_count or len(set(map(int, sizes))) != 1:
            raise ModelError(path, "lists of logits of several lengths, or none", expected="one for each class in all")
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), -1), rows, None
    numbers = [name for name, kind in kinds.items() if types.is_floating(kind)]
    if not numbers:
        raise ModelError(
            path, f"columns {', '.join(table.column_names)}", expected="logits: lists, or a column a class"
        )
    return np.stack([table[name].to_numpy() for name in numbers], axis=1), rows, numbers


def _choose(wanted: Sequence[str], there: Sequence[str], what: str, path: Path) -> str:
    """Returns the first of some names that is there, or else the only one."""
    if found := [name for name in wanted if name in there]:
        return found[0]
    if what == "logits" and len(there) == 1:
        return there[0]
    raise ModelError(path, f"holds {', '.join(there)}", expected=f"{what}: {' or '.join(wanted)}")


def _read_ids(path: Path) -> Sequence[Any]:
    if path.suffix != ".npy":
        return _id_lines(path)
    try:
        ids: Sequence[Any] = np.load(path, allow_pickle=False).tolist()
    except (ValueError, EOFError) as error:
        raise ModelError(path, f"not a .npy file of ids ({error})") from None
    return ids


def _id_lines(path: Path) -> list[str]:
    try:
        return list(text_lines(path, errors="surrogateescape"))
    except ValueError as error:
        raise ModelError(path, str(error), expected="an id or a key in a line") from None


def _sample_ids(rows: Sequence[Any], samples: Path, where: Path) -> UInt64[np.ndarray, " rows"]:
    """Returns sample ids as numbers, from numbers, 16 hex digits or keys; an unknown key gets 0,
    which is no sample's.
    """
    if all(isinstance(row, int) for row in rows):
        return np.array([row % 2**64 for row in rows], dtype=np.uint64)  # from 64 bits with or without a sign
    if odd := [row for row in rows if not isinstance(row, str)]:
        raise ModelError(where, f"an id is {odd[0]!r}", expected="sample ids or keys")
    if all(re.fullmatch(r"[0-9a-f]{16}", row) for row in rows):
        return np.array([int(row, 16) for row in rows], dtype=np.uint64)
    known = read_keys(samples)
    accented = {composed(key): sample for key, sample in known.items() if not key.isascii()}
    found_ids = [known.get(row) or accented.get(composed(row), 0) for row in rows]
    if not any(found_ids):
        found = f"none of its ids is a sample's, nor a key in {samples} (the first: {rows[0]!r})"
        raise ModelError(where, found, expected="16 hex digits, or keys of this data's source")
    return np.array(found_ids, dtype=np.uint64)


def read_keys(path: Path) -> Mapping[str, int]:
    """Returns sample ids by key, from the list `samples.tsv` of a data set."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return {row[3]: int(row[0], 16) for row in islice(read_lines(file), 1, None)}
    except FileNotFoundError:
        raise DataError(path, "no such file", fix="run `dvc repro prepare`") from None
