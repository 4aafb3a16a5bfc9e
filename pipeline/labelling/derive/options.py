"""Options of a derivation as a person writes them: views, samples, weights, an encoding by name."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from pipeline.core.config import load_rows
from pipeline.core.errors import ConfigError, DataError, StoreError, suggest
from pipeline.core.plain_files import text_lines
from pipeline.labels.encodings import Budget, Encoding, build_row
from pipeline.labels.reader import StoreReader
from pipeline.labels.samples import StoredSamples


def parse_views(views: str) -> list[int]:
    """Returns the numbers of views in a text such as `0,2`."""
    if not re.fullmatch(r"\d+(,\d+)*", views):
        raise ConfigError("--views", repr(views), expected="numbers of views, such as 0,2")
    return [int(number) for number in views.split(",")]


def parse_weights(weights: str, count: int) -> list[float]:
    """Returns the `count` weights in a text such as `0.7,0.3`."""
    try:
        parsed = [float(weight) for weight in weights.split(",")]
    except ValueError:
        parsed = []
    if len(parsed) != count or not all(0 < weight < float("inf") for weight in parsed):
        raise ConfigError("--weights", repr(weights), expected=f"{count} numbers above 0, such as 0.7,0.3")
    return parsed


def choose_samples(store: StoreReader, file: Path | None, first: int | None) -> StoredSamples | None:
    """Returns the first samples of a store or those in a file; None where neither is
    asked for.
    """
    if file is not None and first is not None:
        raise ConfigError("subset", "both --samples and --first", expected="one of them")
    if first is not None:
        if first > store.manifest.num_samples:
            found = f"has {store.manifest.num_samples:,} samples, not {first:,}"
            raise StoreError(store.location, found, expected="--first of no more than these")
        return store.samples.take(slice(first))
    return None if file is None else StoredSamples.of(read_sample_ids(file))


def read_sample_ids(file: Path) -> UInt64[np.ndarray, " samples"]:
    """Returns the sample ids in a file, one of 16 hex digits in a line."""
    if not file.is_file():
        raise DataError(file, "no such file", expected="sample ids, one in a line")
    ids = []
    try:
        for number, line in enumerate(text_lines(file, errors="replace"), start=1):
            if line.strip():
                if not re.fullmatch(r"[0-9a-fA-F]{16}", line.strip()):
                    raise DataError(
                        f"{file}:{number}", repr(line.strip()[:40]), expected="a sample id of 16 hex digits"
                    )
                ids.append(int(line, 16))
    except ValueError as error:
        raise DataError(file, str(error), expected="sample ids, one in a line") from None
    if not ids:
        raise DataError(file, "is empty", expected="sample ids, one in a line")
    return np.array(ids, dtype=np.uint64)


def choose_encoding(first: StoreReader, name: str | None, params: Path) -> Encoding:
    """Returns the named row of `encodings`, or the first store's encoding without a name."""
    if name is None:
        return first.encoding
    rows = load_rows("encodings", params)
    if name not in rows:
        raise ConfigError("--encoding", repr(name), expected=suggest(name, list(rows)))
    encoding = build_row(rows[name], f"{params}: encodings.{name}")
    if isinstance(encoding, Budget):
        found = f"{name!r}, for which a dump chooses the encoding"
        raise ConfigError("--encoding", found, expected="a row that names one, or none: as the first store has it")
    encoding.check(first.manifest.space, f"{params}: encodings.{name}")
    if not encoding.fields(first.manifest.space):
        raise ConfigError("--encoding", f"{name!r} holds no soft labels", expected="any other")
    return encoding


def need_labels(stores: Sequence[StoreReader]) -> None:
    """Raises StoreError where a store holds no soft labels."""
    for store in stores:
        if not store.encoding.fields(store.manifest.space):
            raise StoreError(store.location, "holds no soft labels", expected="a store of any other encoding")
