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
from pipeline.data.input_kinds import InputKind
from pipeline.data.manifest import DatasetManifest
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.explanation.opinions import choose_store, stored_opinions
from pipeline.explanation.suspect_entries import entry_answers, judge_entries
from pipeline.explanation.suspects import Suspicions, judge_classes
from pipeline.labels.canaries import check_canaries
from pipeline.labels.reader import StoreReader
from pipeline.results.explanation import ConfusedPair

_MOST_PAIRS = 10


@dataclass(frozen=True)
class CheckedLabels:
    """The hard labels of training samples that are probably wrong, worst first.

    Attributes:
        store: The store that the labels were checked by.
        num_checked: The number of hard labels that were checked.
        why_none: The reason where none was checked.
        answers: The names of the suspects' answers.
        of_entries: Whether an entry of a sample is checked, and not a sample.
    """

    store: StoreReader | None
    suspects: Suspicions
    num_checked: int
    why_none: str | None
    answers: Sequence[str]
    of_entries: bool

    @classmethod
    def of(cls, labels: Path, train: SplitOnDisk, data: DatasetManifest) -> "CheckedLabels":
        """Checks the training split by the best store in a folder. Raises StoreError where it is
        not for this data.
        """
        store, class_names, of_entries = choose_store(labels, data.signal), data.class_names, data.signal == "binary"
        answers = entry_answers(class_names) if of_entries else class_names
        if store is None:
            why = f"{labels} has no store with soft labels at temperature 1"
            return cls(None, Suspicions.none(), 0, why, answers, of_entries)
        if store.manifest.class_names != class_names:
            fix = "run `dvc repro dump_labels` for this data"
            raise StoreError(store.location, "its classes are not those of data/prepare", fix=fix)
        check_canaries(store.canaries, train, store.views, store.location, store.row_order(train))
        judge = judge_entries if of_entries else judge_classes
        found = judge(stored_opinions(store, train), train.hard_labels.numpy(), len(class_names))
        why_none = None if found.num_checked else _why_none(store, data.kind)
        return cls(store, found.suspects, found.num_checked, why_none, answers, of_entries)

    def __str__(self) -> str:
        if self.why_none:
            return f"no labels were checked: {self.why_none}"
        what = "entries of hard labels" if self.of_entries else "hard labels"
        return f"{len(self.suspects):,} of {self.num_checked:,} {what} are probably wrong"

    def shown(self, count: int) -> dict[int, tuple[float, int | None]]:
        """Returns the places of the most suspicious samples, with their suspicion and, where it is
        an entry, its class.
        """
        found: dict[int, tuple[float, int | None]] = {}
        own = self.suspects
        each = zip(own.places.tolist(), own.suspicion.tolist(), own.hard_labels.tolist(), strict=True)
        for place, suspicion, answer in each:
            if len(found) < count:
                found.setdefault(place, (suspicion, answer // 2 if self.of_entries else None))
        return found

    def pairs(self) -> list[ConfusedPair]:
        """Returns the commonest pairs of a hard label and the teacher's answer."""
        counts = Counter(zip(self.suspects.hard_labels.tolist(), self.suspects.teacher_says.tolist(), strict=True))
        listed = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_PAIRS]
        return [ConfusedPair(self.answers[a], self.answers[b], count) for (a, b), count in listed]


def _why_none(store: StoreReader, kind: InputKind) -> str:
    if store.views.mixes:
        return f"{store.location}: all its views are mixed of two {kind.things}"
    return f"{store.location}: it has no labelled {kind.thing} of this data"


def write_suspects(
    path: Path, suspects: Suspicions, train: SplitOnDisk, sample_list: Path, answers: Sequence[str]
) -> None:
    """Writes all suspects as a table, worst first; the last column is the source's name of the
    sample.

    Args:
        sample_list: The list of samples that `prepare` writes.
    """
    keys = sample_keys(sample_list, suspects.places)
    rows = [["sample_id", "index", "hard_label", "teacher_says", "hard_prob", "teacher_prob", "suspicion", "key"]]
    columns = (suspects.hard_labels, suspects.teacher_says, suspects.hard_probs, suspects.teacher_probs)
    for place, label, says, own, other, suspicion in zip(suspects.places, *columns, suspects.suspicion, strict=True):
        sample_id = f"{int(train.sample_ids[place]):016x}"
        figures = [f"{figure:.6f}" for figure in (own, other, suspicion)]
        rows.append([sample_id, str(place), answers[label], answers[says], *figures, keys[int(place)]])
    write_bytes(path, "".join(lines_of(rows)).encode())


def sample_keys(path: Path, places: Int64[np.ndarray, " some"]) -> dict[int, str]:
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
