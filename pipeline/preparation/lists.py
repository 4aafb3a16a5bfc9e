"""Lists beside a prepared data set, for people and for joins: tables, a line of names first."""

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pipeline.core.tables import lines_of
from pipeline.preparation.pool import Pool
from pipeline.preparation.sources.split_names import SPLITS

_SAMPLE = ("sample_id", "split", "class", "key")
_CONTRADICTION = ("sample_id", "class", "key")


def write_samples(path: Path, pool: Pool, splits: Mapping[str, np.ndarray]) -> None:
    """Writes every sample in the order of its split: its id, split, class (empty: unlabelled) and
    key in the source. Of a set of classes the names are there, joined by `|`, and NA where it is
    unlabelled; entries that are unknown are left out.
    """
    _write(path, _SAMPLE, _samples(pool, splits))


def write_duplicates(path: Path, pool: Pool, splits: Mapping[str, np.ndarray]) -> int:
    """Writes the same of samples whose pixels another one has too, by id, if there are any; returns
    their number.
    """
    ids, kept = pool.column("sample_ids"), np.concatenate(list(splits.values()))
    values, counts = np.unique(ids[kept], return_counts=True)
    repeated = np.isin(ids, values[counts > 1])
    if repeated.any():
        own = {split: some[repeated[some]] for split, some in splits.items()}
        _write(path, _SAMPLE, sorted(_samples(pool, own), key=lambda line: line[0]))
    return int(repeated[kept].sum())


def write_contradictions(path: Path, pool: Pool, some: Int64[np.ndarray, " some"]) -> list[tuple[str, ...]]:
    """Writes id, class and key of images, which are given in the order of rows, sorted; returns
    these lines.
    """
    ids, labels = pool.column("sample_ids")[some], pool.column("hard_labels")[some]
    lines = zip(ids.tolist(), labels, pool.keys(some), strict=True)
    rows: list[tuple[str, ...]] = sorted(
        (f"{sample_id:016x}", pool.numbering.text(label), key) for sample_id, label, key in lines
    )
    _write(path, _CONTRADICTION, rows)
    return rows


def write_broken(path: Path, pool: Pool) -> int:
    """Writes the images that can't be decoded, and why, if there are any; returns their number."""
    count = sum(1 for _ in pool.broken())
    if count:
        _write(path, ("key", "reason"), ((one.key, one.reason) for one in pool.broken()))
    return count


def _samples(pool: Pool, splits: Mapping[str, np.ndarray]) -> Iterator[tuple[str, ...]]:
    ids, labels = pool.column("sample_ids"), pool.column("hard_labels")
    for split in SPLITS:
        rows = splits[split]
        lines = zip(ids[rows].tolist(), pool.numbering.texts(labels[rows]), pool.keys(rows), strict=True)
        for sample_id, text, key in lines:
            yield f"{sample_id:016x}", split, text, key


def _write(path: Path, names: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> None:
    """Writes line by line: the list of a million images is some 100 MB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.writelines(lines_of(chain([names], lines)))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
