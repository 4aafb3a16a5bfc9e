"""Pictures in several classes: images with equal pixels whose labels contradict each other."""

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from pipeline.data.splits import UNLABELLED

Contradicting = Literal["keep", "drop", "refuse"]
CONTRADICTIONS = "contradictions.tsv"


def contradicting(
    sample_ids: UInt64[np.ndarray, " images"], hard_labels: Int64[np.ndarray, " images"]
) -> Bool[np.ndarray, " images"]:
    """Returns which images have a class, and another image of other class has the same pixels."""
    labelled = np.flatnonzero(hard_labels != UNLABELLED)
    order = labelled[np.lexsort((hard_labels[labelled], sample_ids[labelled]))]
    ids, labels = sample_ids[order], hard_labels[order]
    several = ids[1:][(ids[1:] == ids[:-1]) & (labels[1:] != labels[:-1])]
    mask: Bool[np.ndarray, " images"] = np.isin(sample_ids, several) & (hard_labels != UNLABELLED)
    return mask


def contradictions_line(folder: Path, chosen: Contradicting) -> str | None:
    """Returns a line about those that a prepared data set lists; None without any."""
    path = folder / CONTRADICTIONS
    if not path.exists():
        return None
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        ids = [line.split("\t", 1)[0] for line in file][1:]
    done = "left out" if chosen == "drop" else "kept"
    found = f"{len(ids):,} images ({len(set(ids)):,} distinct pictures) have contradicting labels and were {done}"
    return f"labels: {found}; see {path} (prepare.contradicting: keep, drop or refuse)"
