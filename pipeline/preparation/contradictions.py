"""Equal samples in several classes: their labels contradict each other."""

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int8, Int64, Shaped, UInt64

from pipeline.data.hard_labels import is_labelled

Contradicting = Literal["keep", "drop", "refuse"]
CONTRADICTIONS = "contradictions.tsv"


def contradicting(
    sample_ids: UInt64[np.ndarray, " images"], hard_labels: Shaped[np.ndarray, "images ..."]
) -> Bool[np.ndarray, " images"]:
    """Returns which images have a class, and another image of other class has the same pixels.

    Sets of independent classes contradict each other where one has a class that the other is known
    not to have.
    """
    is_known = is_labelled(hard_labels)
    labelled = np.flatnonzero(is_known)
    in_several = _in_several_sets if hard_labels.ndim == 2 else _in_several_classes
    mask: Bool[np.ndarray, " images"] = is_known & np.isin(
        sample_ids, in_several(sample_ids[labelled], hard_labels[labelled])
    )
    return mask


def _in_several_classes(
    ids: UInt64[np.ndarray, " images"], labels: Int64[np.ndarray, " images"]
) -> UInt64[np.ndarray, " some"]:
    """Returns the ids of several classes."""
    order = np.lexsort((labels, ids))
    ids, labels = ids[order], labels[order]
    several: UInt64[np.ndarray, " some"] = ids[1:][(ids[1:] == ids[:-1]) & (labels[1:] != labels[:-1])]
    return several


def _in_several_sets(
    ids: UInt64[np.ndarray, " images"], entries: Int8[np.ndarray, "images classes"]
) -> UInt64[np.ndarray, " some"]:
    """Returns the ids of which one image is of a class, and another one is not."""
    values, places, counts = np.unique(ids, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[places] > 1)
    if len(repeated) == 0:
        return values[:0]
    order = repeated[np.argsort(places[repeated], kind="stable")]
    first = np.flatnonzero(np.diff(places[order], prepend=-1))
    yes, no = (np.logical_or.reduceat(entries[order] == entry, first) for entry in (1, 0))
    several: UInt64[np.ndarray, " some"] = ids[order][first][(yes & no).any(axis=1)]
    return several


def contradictions_line(folder: Path, chosen: Contradicting, things: str) -> str | None:
    """Returns a line about those that a prepared data set lists; None without any.

    Args:
        things: What samples are called.
    """
    path = folder / CONTRADICTIONS
    if not path.exists():
        return None
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        ids = [line.split("\t", 1)[0] for line in file][1:]
    done = "left out" if chosen == "drop" else "kept"
    found = f"{len(ids):,} {things} ({len(set(ids)):,} distinct) have contradicting labels and were {done}"
    return f"labels: {found}; see {path} (prepare.contradicting: keep, drop or refuse)"
