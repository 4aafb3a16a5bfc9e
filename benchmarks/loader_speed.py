"""Images a second of our loaders, and of those that people have, in one run.

    python -m benchmarks.loader_speed    # the Fashion-MNIST that `make repro` left, and drawn files
    python -m benchmarks.loader_speed --files FOLDER    # JPEG files of your own in class folders

`LabelledLoader` and `DistillationDataset` make views, as `dump_labels` has them in params.yaml, and
join soft targets to them. torch's TensorDataset (decoded images in memory) and torchvision's
ImageFolder (the same images as files) give the images as they are, with hard labels;
"ImageFolder with views" shifts and flips them by torchvision as the views do. All give uint8,
shuffled, in batches of 128. Our data keeps the files as they are where the others read
files: it decodes each at every reading, too. Labels are random; no teacher is needed.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from torch.utils.data import DataLoader, RandomSampler, TensorDataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

import potstill
from benchmarks.loader_images import Images, fashion_mnist, from_files
from benchmarks.measure import all_in_turn, report
from benchmarks.prepare_speed import ImageFiles, photos
from pipeline.core.errors import one_line_errors
from pipeline.core.progress import say
from pipeline.data.dataset import ImageDataset

BATCH, SMALL_PX, FILE_PX = 128, 28, 224
WORKERS = (0, 2)
_WITH_VIEWS = "ImageFolder with views"


@dataclass(frozen=True)
class Contender:
    """A way to go through images once; `epoch` yields the size of each batch."""

    name: str
    workers: int | None
    epoch: Callable[[], Iterator[int]]

    def run(self) -> int:
        """Returns the number of images that it gave."""
        return sum(self.epoch())


def contenders(images: Images, workers: Sequence[int]) -> list[Contender]:
    """Returns all loaders of some images; ours go to the next view with each epoch."""
    labels, memory_mb = potstill.open_labels(images.store), images.memory_mb
    quick = potstill.LabelledLoader(images.prepared, labels, BATCH, memory_mb=memory_mb)
    views = potstill.DistillationDataset(images.prepared, labels, memory_mb=memory_mb)
    split = ImageDataset(images.prepared).split("train")
    pixels = TensorDataset(split.inputs[: images.most], split.hard_labels[: images.most])
    fit = [transforms.Resize(images.size_px), transforms.CenterCrop(images.size_px), transforms.PILToTensor()]
    views_of = [transforms.RandomCrop(images.size_px, padding=1), transforms.RandomHorizontalFlip()]
    others = {
        "TensorDataset": pixels,
        "ImageFolder": ImageFolder(str(images.files), transforms.Compose(fit)),
        _WITH_VIEWS: ImageFolder(str(images.files), transforms.Compose([*fit[:-1], *views_of, fit[-1]])),
    }
    found = [Contender("LabelledLoader", None, _ours(quick, quick, "inputs"))]
    for each in workers:
        own = _loader(views, images.most, each, potstill.collate)
        found.append(Contender("DistillationDataset", each, _ours(own, views, "view")))
        for name, theirs in others.items():
            loader = _loader(theirs, images.most, each)
            found.append(Contender(name, each, partial(_sizes, loader)))
    return found


def _loader(dataset: Any, most: int, workers: int, collate: Callable[[Any], Any] | None = None) -> "DataLoader[Any]":
    some = RandomSampler(dataset, num_samples=min(most, len(dataset)))
    stay = workers > 0  # as they do in a training
    return DataLoader(dataset, BATCH, sampler=some, num_workers=workers, persistent_workers=stay, collate_fn=collate)


def _ours(loader: Iterable[Any], chooser: Any, inputs: str) -> Callable[[], Iterator[int]]:
    """Returns a function that goes through the next epoch."""
    numbers = count()

    def epoch() -> Iterator[int]:
        chooser.set_epoch(next(numbers))
        return (len(getattr(batch, inputs)) for batch in loader)

    return epoch


def _sizes(loader: Iterable[Any]) -> Iterator[int]:
    return (len(batch[0]) for batch in loader)


def measure(images: Images, rounds: int, workers: Sequence[int] = WORKERS) -> list[dict[str, Any]]:
    """Returns a row for each loader: its speed, and how many times that of the others it is."""
    some = contenders(images, workers)
    counts = [each.run() for each in some]
    seconds = all_in_turn([each.run for each in some], rounds)
    speeds = [[count / one for one in own] for count, own in zip(counts, seconds, strict=True)]
    rows = []
    for each, own in zip(some, speeds, strict=True):
        row: dict[str, Any] = {"images": images.name, "loader": each.name, "workers": each.workers}
        row["images/s"] = statistics.median(own)
        for other in ("TensorDataset", "ImageFolder", _WITH_VIEWS):
            rivals = [s for e, s in zip(some, speeds, strict=True) if e.name == other and _is_rival(each, e)]
            best = map(max, zip(*rivals, strict=True))
            row[f"times {other}"] = statistics.median(a / b for a, b in zip(own, best, strict=True))
        rows.append(row)
    return rows


def _is_rival(own: Contender, other: Contender) -> bool:
    """Returns whether both have as many workers; one that has none by its nature meets them all."""
    return own.workers is None or own.workers == other.workers


def _of_folder(folder: Path, files: Path) -> ImageFiles:
    """Returns the images of somebody's class folders."""
    folder.mkdir()
    (folder / "files").symlink_to(files.absolute(), target_is_directory=True)
    found = sorted(path for path in files.glob("*/*") if path.suffix.lower() in {".jpg", ".jpeg"})
    return ImageFiles(f"{files.name}, {FILE_PX} x {FILE_PX}", folder, found, [FILE_PX, FILE_PX])


def main(
    files: Annotated[Path | None, typer.Option(help="JPEG files in class folders; by default drawn ones.")] = None,
    rounds: int = 5,
    small: Annotated[bool, typer.Option(help="A rehearsal on few drawn images.")] = False,
) -> None:
    # Of 2,370 files 1,920 are the training split: whole batches, as `LabelledLoader` has them.
    most, num_files, rounds = (200, 160, 1) if small else (10_000, 2_370, rounds)
    rows = list[dict[str, Any]]()
    with TemporaryDirectory() as folder:
        say("loader_speed: making images and labels")
        large = (
            photos(Path(folder, "photos"), num_files, (FILE_PX, FILE_PX))
            if files is None
            else _of_folder(Path(folder, "photos"), files)
        )
        if Path("data/prepare").exists() and not small:
            first = fashion_mnist(Path(folder), most)
        else:
            first = from_files(photos(Path(folder, "few"), most, (SMALL_PX, SMALL_PX)), SMALL_PX, streamed=False)
        for images in (first, *(from_files(large, FILE_PX, streamed=streamed) for streamed in (True, False))):
            rows += measure(images, rounds)
    claim = (
        f"shuffled uint8 batches of {BATCH}; medians of {rounds} rounds in turn; one with no workers against the best"
    )
    report("loader_speed", claim, rows)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
