"""Several students in one pass over the images, against the same students one after the other.

    python -m benchmarks.farm    # Fashion-MNIST in memory, as `make repro` left it
    PHOTOS_ARCHIVE=photos1000.tar python -m benchmarks.farm --photos

With `--photos`, photographs are kept as files and streamed, so that every epoch decodes them to 224
x 224 pixels and renders views of them: that is what a group of four shares. The students see views
of 224 pixels or smaller ones, as students for a board do; labels are random. What a student costs
is what one more of them adds to a pass, and what is shared is the rest. The archive is that of
`photos_teacher`.
"""

import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer

from benchmarks.loader_images import LEAST_MB, random_labels
from benchmarks.measure import in_turn, need_data, report
from benchmarks.photos_teacher import ARCHIVE_VARIABLE, SIDE_PX, VIEWS
from benchmarks.prepare_speed import ImageFiles
from pipeline.core.config import load_row
from pipeline.core.errors import DataError, one_line_errors
from pipeline.core.progress import say
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import Split, SplitInMemory
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
PHOTO_GROUP, PHOTO_BATCH, CLASSES = 4, 64, 10
PHOTO_STUDENTS = (("tiny", 64), ("tiny", 96), ("small", 64), ("tiny", SIDE_PX))  # and the pixels that they see


@dataclass(frozen=True)
class Data:
    """A data set for students, two splits of it, labels, and the memory for streaming."""

    dataset: ImageDataset
    train: Split
    val: Split
    store: StoreReader
    budget: MemoryBudget | None = None


def main(
    photos: Annotated[bool, typer.Option("--photos", help="Photographs, decoded at every reading.")] = False,
    archive: Annotated[Path | None, typer.Option(envvar=ARCHIVE_VARIABLE)] = None,
    rounds: int = ROUNDS,
) -> None:
    if photos:
        of_photos(archive, rounds)
    else:
        of_fashion_mnist(rounds=rounds)


def of_fashion_mnist(num_images: int = NUM_IMAGES, counts: Sequence[int] = COUNTS, rounds: int = ROUNDS) -> None:
    """Reports groups of several sizes on images in memory."""
    need_data()
    row, dataset = load_row(TrainStudent, "students", STUDENT), ImageDataset(Path("data/prepare"))
    train, val = dataset.split("train"), dataset.split("val")
    share = min(1.0, num_images / len(train))
    store = StoreReader(Path(f"data/dump_labels/{row.labels}.zarr"))
    students = Farm(row, max(counts), Data(dataset, _first(train, share), _first(val, share), store))
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


def of_photos(archive: Path | None, rounds: int) -> None:
    """Reports groups of four on photographs, by views and by what a student costs."""
    if archive is None or not archive.exists():
        raise DataError(ARCHIVE_VARIABLE, f"{archive or 'not set'}", expected="an archive of photographs")
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        say("farm: preparing photographs")
        prepared = _prepare(Path(folder), archive)
        dataset = ImageDataset(prepared)
        train, val = dataset.stream("train"), dataset.stream("val")
        budget = MemoryBudget.of_megabytes(LEAST_MB, PHOTO_BATCH, "farm")
        for views in VIEWS:
            store = StoreReader(random_labels(prepared, Path(folder, views), VIEWS[views]))
            for name, pixels in PHOTO_STUDENTS:
                row = load_row(TrainStudent, "students", name)
                row = replace(row, fit=replace(row.fit, batch_size=PHOTO_BATCH, precision="float32"))
                students = Farm(row, PHOTO_GROUP, Data(dataset, train, val, store, budget), pixels)
                together, alone, ratio = in_turn(
                    students.together(PHOTO_GROUP), students.one_by_one(PHOTO_GROUP), rounds
                )
                each = (together - alone / PHOTO_GROUP) / (PHOTO_GROUP - 1)
                shared = together - PHOTO_GROUP * each
                milliseconds = {
                    "a student ms/image": 1e3 * each / len(train),
                    "what is shared ms/image": 1e3 * shared / len(train),
                }
                rows.append(
                    {"views": views, "student": name, "pixels": pixels, "one pass s": together, "one by one s": alone}
                    | {"ratio": ratio}
                    | milliseconds
                )
    claim = (
        f"{PHOTO_GROUP} students in one pass over {len(train)} photographs, decoded to {SIDE_PX} x {SIDE_PX} pixels, "
        f"against one after the other, one epoch each with validation, median of {rounds} pairs"
    )
    report("farm_photos", claim, rows)


def _prepare(folder: Path, archive: Path) -> Path:
    """Returns a data set of photographs in ten classes, whatever they show, kept as files."""
    found = list[Path]()
    with tarfile.open(archive) as tar:
        for number, member in enumerate(sorted((one for one in tar if one.isfile()), key=lambda one: one.name)):
            content, place = tar.extractfile(member), folder / "files" / str(number % CLASSES)
            assert content is not None, "it is a file"
            place.mkdir(parents=True, exist_ok=True)
            found.append(place / f"{number:04}.jpg")
            found[-1].write_bytes(content.read())
    files = ImageFiles("photographs", folder, found, [SIDE_PX, SIDE_PX])
    return files.prepare(files.in_folders, "encoded", files.image_px)


class Farm:
    """A group of students that can be trained from the start any number of times.

    Args:
        pixels: The side of the images that they see; None: that of the data.
    """

    def __init__(self, row: TrainStudent, count: int, data: Data, pixels: int | None = None) -> None:
        self._val, self._device = data.val, choose_device(row.device)
        meta = ModelMeta.untrained(row.model, row.model_settings, data.dataset.manifest, {})
        self._meta = replace(meta, size_px=None if pixels is None else [pixels, pixels])
        temperatures = data.store.codec_temperatures
        self._rows = [
            replace(
                row,
                temperature=temperatures[number % len(temperatures)],
                fit=replace(row.fit, epochs=1, learning_rate=row.fit.learning_rate * 0.9**number),
            )
            for number in range(count)
        ]
        names, place = data.dataset.manifest.class_names, Placement(self._device, data.budget)
        self._views = [
            LabelledViews(data.train, data.store, names, each.read_temperature, place) for each in self._rows
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
    with one_line_errors():
        typer.run(main)
