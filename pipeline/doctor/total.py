"""Views and bytes for a store of a total size, decided by short trainings of a student.

1. The ladder of encodings is measured on the teacher's labels, or on those of a dense store.
2. For each number of views the best encoding of what they leave is taken.
3. A student learns from each pair on a part of the training data; the validation split decides.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.progress import say
from pipeline.data.dataset import ImageDataset
from pipeline.doctor.comparison import open_part, shortened_row, soft_student, train_on_each
from pipeline.labelling.temporary import temporary_folder
from pipeline.labelling.tune_source import LabelSource
from pipeline.labelling.tune_total import Pair, TrialPart, pairs_within, parse_size
from pipeline.signals import Signal, signal_named


@dataclass(frozen=True)
class TotalTrial:
    """A search for views and bytes.

    Attributes:
        total: The size of the whole store, such as `300MB`.
        student: The one to try; None: the first that learns from soft labels.
        samples: Training images to try it on, at most, and validation images.
        epochs: Its epochs, at most; no more views are tried than it has epochs.
        labels: How many labels to measure encodings on.
    """

    total: str
    student: str | None
    samples: int
    epochs: int
    labels: int

    def run(self, source: LabelSource, params: Path, data: Path) -> "Outcome":
        """Returns the pairs and how well the student does with each; raises PipelineError."""
        # 1. The settings, before anything takes time.
        total = parse_size(self.total, "--total")
        name, row = soft_student(self.student, params)
        row, where = shortened_row(row, self.epochs), f"{params}: students.{name}"
        # 2. The pairs.
        labels = source.draw(self.labels)
        most = min(row.fit.epochs, len(source.view_numbers or range(row.fit.epochs)))
        pairs = pairs_within(total, labels.rungs("tune_labels"), source.num_samples, most)
        # 3. The student on each.
        part = open_part(ImageDataset(data), row, self.samples)
        counts = f"{len(part.train):,} training images, {row.fit.epochs} epochs, {len(part.val):,} validation images"
        say(f"tune_labels: student {name} on {len(pairs)} pairs of views and encoding: {counts}")
        with temporary_folder() as folder:
            trial = TrialPart(source, part.train, part.manifest.class_names, labels.pilot)
            scores = train_on_each(row, trial.write(folder, pairs), part, folder, where)
        return Outcome(name, pairs, scores, len(part.val), signal_named(part.manifest.signal))


@dataclass(frozen=True)
class Outcome:
    """The pairs, and the student's score by number of views: the headline of the signal, on the
    validation split.
    """

    student: str
    pairs: Sequence[Pair]
    scores: Mapping[int, float]
    num_val: int
    signal: Signal

    @property
    def best(self) -> Pair:
        """The pair with the best score; of equal ones that with the fewest views."""
        return max(self.pairs, key=lambda pair: self.scores[pair.num_views])

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The pairs as lines of a table."""
        return [
            {
                "views": pair.num_views,
                "encoding": pair.name,
                "label_bytes": pair.rung.label_bytes,
                "total_mb": pair.total_bytes / 1e6,
                "kl_nats": pair.rung.worst_kl,
                "score": self.scores[pair.num_views],
                "best": "*" if pair == self.best else "",
            }
            for pair in self.pairs
        ]

    @property
    def error(self) -> float | None:
        """The standard error of the best accuracy: sqrt(p (1 - p) / n); None of another figure."""
        if self.signal.headline != "accuracy":
            return None
        best = self.scores[self.best.num_views]
        return math.sqrt(best * (1 - best) / self.num_val)
