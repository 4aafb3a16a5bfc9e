"""Sample ids of the rows of a file, from numbers, hex digits or keys of `samples.tsv`."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt64

from pipeline.core.errors import DataError, ModelError
from pipeline.core.plain_files import text_lines
from pipeline.core.tables import read_lines
from pipeline.core.text import composed


def read_ids(path: Path) -> Sequence[Any]:
    """Returns the ids in a file: an array of NumPy, or one in a line."""
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


def match_ids(rows: Sequence[Any], samples: Path, where: Path) -> UInt64[np.ndarray, " rows"]:
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
