"""Several students in one pass over the images, against the same students one after the other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.measure import in_turn, need_data, report
from pipeline.core.config import load_row
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import SplitInMemory
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.saved import ModelMeta
from pipeline.student.batches import LabelledBatch
from pipeline.student.labelled_views import LabelledViews, Placement, shared_batches
from pipeline.student.settings import TrainStudent
from pipeline.student.task import StudentTask
from pipeline.training.fit import fit
from pipeline.training.run import Workplace
from pipeline.training.trainer import Trainer

STUDENT = "tiny"  # of the table: what is shared is the larger part of its step
COUNTS = (1, 2, 4, 8)
NUM_IMAGES = 12_800  # a training of one epoch
ROUNDS = 3


def main(num_images: int = NUM_IMAGES, counts: Sequence[int] = COUNTS, rounds: int = ROUNDS) -> None:
    need_data()
    students = Farm(load_row(TrainStudent, "students", STUDENT), max(counts), num_images)
    rows: list[dict[str, Any]] = []
    for count in counts:
        together, alone, ratio = in_turn(students.together(count), students.one_by_one(count), rounds)
        rows.append(
            {
                "students": count,
                "one pass s": together,
                "one by one s": alone,
                "ratio": ratio,
                "speed-up": 1 / ratio,
                "each costs": together / count / rows[0]["one pass s"] if rows else 1.0,
            }
        )
    claim = (
        f"students like {STUDENT!r}, of different temperatures and learning rates, in one pass over {num_images:,} "
        f"images against one after the other, median of {rounds} pairs"
    )
    report("farm", claim, rows)


class Farm:
    """A group of students that can be trained from the start any number of times."""

    def __init__(self, row: TrainStudent, count: int, num_images: int) -> None:
        dataset = ImageDataset(Path("data/prepare"))
        train, val = dataset.split("train"), dataset.split("val")
        share = min(1.0, num_images / len(train))
        self._train, self._val = _first(train, share), _first(val, share)
        self._device = choose_device(row.device)
        self._meta = ModelMeta.untrained(row.model, row.model_settings, dataset.manifest, {})
        store = StoreReader(Path(f"data/dump_labels/{row.labels}.zarr"))
        temperatures = store.codec_temperatures
        self._rows = [
            replace(
                row,
                temperature=temperatures[number % len(temperatures)],
                fit=replace(row.fit, epochs=1, learning_rate=row.fit.learning_rate * 0.9**number),
            )
            for number in range(count)
        ]
        self._views = [
            LabelledViews(
                self._train, store, dataset.manifest.class_names, each.read_temperature, Placement(self._device)
            )
            for each in self._rows
        ]

    def together(self, count: int) -> Callable[[], None]:
        """Returns a function that trains the first `count` in one pass."""
        return lambda: self._fit(range(count))

    def one_by_one(self, count: int) -> Callable[[], None]:
        """Returns a function that trains the first `count` one after the other."""

        def train_all() -> None:
            for number in range(count):
                self._fit([number])

        return train_all

    def _fit(self, numbers: Sequence[int]) -> None:
        row = self._rows[0]
        views = [self._views[number] for number in numbers]

        def batches(places: Sequence[int], epoch: int, start: int) -> Iterator[tuple[LabelledBatch, ...]]:
            asked = [views[place] for place in places]
            return shared_batches(asked, epoch, start, batch_size=row.fit.batch_size, seed=row.seed)

        with TemporaryDirectory() as folder, redirect_stderr(StringIO()):
            fit([self._trainer(number, Path(folder, str(number))) for number in numbers], batches)
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def _trainer(self, number: int, scratch: Path) -> Trainer[LabelledBatch]:
        row = self._rows[number]
        task = StudentTask(row, self._views[number], self._val, self._device)
        return Trainer(self._meta.build(row.seed), task, row.fit, Workplace(scratch, self._device, f"student {number}"))


def _first(split: SplitInMemory, share: float) -> SplitInMemory:
    """Returns the first part of a split."""
    count = int(len(split) * share)
    return SplitInMemory(split.inputs[:count], split.hard_labels[:count], split.sample_ids[:count])


if __name__ == "__main__":
    main()
