"""The check of a project's hard labels: the suspects, and the list of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pipeline.core.errors import DataError, StoreError
from pipeline.core.files import write_bytes
from pipeline.core.tables import lines_of, read_lines
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.explanation.opinions import choose_store, stored_opinions
from pipeline.explanation.suspects import Suspicions, judge
from pipeline.labels.canaries import check_canaries
from pipeline.labels.reader import StoreReader
from pipeline.results.explanation import ConfusedPair

_MOST_PAIRS = 10


@dataclass(frozen=True)
class CheckedLabels:
    """The training samples that are probably mislabelled, worst first.

    Attributes:
        store: The store that the labels were checked by.
        num_checked: The number of samples that were checked.
        why_none: The reason where no sample was checked.
    """

    store: StoreReader | None
    suspects: Suspicions
    num_checked: int
    why_none: str | None

    @classmethod
    def of(cls, labels: Path, train: SplitOnDisk, class_names: list[str]) -> "CheckedLabels":
        """Checks the training split by the best store in a folder. Raises StoreError where it is
        not for this data.
        """
        store = choose_store(labels)
        if store is None:
            return cls(None, Suspicions.none(), 0, f"{labels} has no store with soft labels at temperature 1")
        if store.manifest.class_names != class_names:
            fix = "run `dvc repro dump_labels` for this data"
            raise StoreError(store.location, "its classes are not those of data/prepare", fix=fix)
        check_canaries(store.canaries, train, store.views, store.location, store.row_order(train))
        everything, count = judge(stored_opinions(store, train), train.hard_labels.numpy(), len(class_names))
        return cls(store, everything.worst(count), len(everything), None if len(everything) else _why_none(store))

    def __str__(self) -> str:
        if self.why_none:
            return f"no labels were checked: {self.why_none}"
        return f"{len(self.suspects):,} of {self.num_checked:,} hard labels are probably wrong"

    def pairs(self, class_names: Sequence[str]) -> list[ConfusedPair]:
        """Returns the commonest pairs of a hard label and the class that the teacher predicts."""
        counts = Counter(zip(self.suspects.hard_labels.tolist(), self.suspects.teacher_says.tolist(), strict=True))
        listed = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_PAIRS]
        return [ConfusedPair(class_names[a], class_names[b], count) for (a, b), count in listed]


def _why_none(store: StoreReader) -> str:
    if store.views.mixes:
        return f"{store.location}: all its views are mixed of two images"
    return f"{store.location}: it has no labelled image of this data"


def write_suspects(
    path: Path, suspects: Suspicions, train: SplitOnDisk, sample_list: Path, class_names: Sequence[str]
) -> None:
    """Writes all suspects as a table, worst first; the last column is the source's name of the
    sample.

    Args:
        sample_list: The list of samples that `prepare` writes.
    """
    keys = _keys(sample_list, suspects.places)
    rows = [["sample_id", "index", "hard_label", "teacher_says", "hard_prob", "teacher_prob", "suspicion", "key"]]
    columns = (suspects.hard_labels, suspects.teacher_says, suspects.hard_probs, suspects.teacher_probs)
    for place, label, says, own, other, suspicion in zip(suspects.places, *columns, suspects.suspicion, strict=True):
        sample_id = f"{int(train.sample_ids[place]):016x}"
        figures = [f"{figure:.6f}" for figure in (own, other, suspicion)]
        rows.append([sample_id, str(place), class_names[label], class_names[says], *figures, keys[int(place)]])
    write_bytes(path, "".join(lines_of(rows)).encode())


def _keys(path: Path, places: Int64[np.ndarray, " some"]) -> dict[int, str]:
    """Returns the keys of some training samples by place; the list begins with the training split,
    in its order.
    """
    wanted = set(places.tolist())
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            lines = (line for at, line in enumerate(islice(file, 1, None)) if at in wanted)
            return dict(zip(sorted(wanted), (row[3] for row in read_lines(lines)), strict=False))
    except FileNotFoundError:
        raise DataError(path, "no such file", fix="run `dvc repro prepare`") from None
