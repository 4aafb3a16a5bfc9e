"""Images a second of `prepare` from each kind of source, and of reading encoded images in training.

    CIFAR10_ARCHIVE=cifar10-jpeg.tar.xz python -m benchmarks.prepare_speed

`prepare` (source, decoding, pool, splits, the start of its helpers) is compared with a bare loop
that opens, decodes and resizes the same files with Pillow, in as many processes as there are cores,
which run already. Reading encoded images is compared with torchvision's ImageFolder, resized and
cropped to the same size by as many workers of a DataLoader. The archive is that of `cifar_teacher`;
photos are made up. Sources `cifar` and `idx` take the same path as `arrays`.
"""

import csv
import io
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.cifar_teacher import ARCHIVE_VARIABLE, need_archive
from benchmarks.measure import in_turn, report
from pipeline.core.config import load_section
from pipeline.core.errors import one_line_errors
from pipeline.core.files import write_json
from pipeline.core.progress import say
from pipeline.core.threads import usable_cores
from pipeline.data.dataset import ImageDataset
from stages import prepare

PHOTO_PX = (375, 500)
PREPARED_PX, READ_PX = [224, 224], (224, 112)
BATCH = 64
CLASSES = 10
Row = dict[str, Any]
_MEMBER = re.compile(r"(?:.*/)?train/([^/]+)/\d+\.jpe?g")


@dataclass
class ImageFiles:
    """A set of image files in class folders, and the folder for the data sets made of them."""

    name: str
    folder: Path
    files: list[Path]
    image_px: list[int] | None
    _runs: "count[int]" = field(default_factory=count)

    @property
    def in_folders(self) -> Row:
        """Returns the source that reads the images where they are."""
        return {"kind": "folder", "path": str(self.folder / "files")}

    def prepare(self, source: Row, storage: str, image_px: list[int] | None) -> Path:
        """Returns the folder of a data set that was made of the images."""
        place = self.folder / f"run-{next(self._runs)}"
        section = load_section(dict, "prepare") | {"source": source, "image_px": image_px, "storage": storage}
        place.mkdir()
        write_json(place / "params.yaml", {"prepare": section})  # JSON is YAML
        prepare.main(place / "params.yaml", place / "raw", place / "prepare", place / "work")
        return place / "prepare"

    def clear(self) -> None:
        """Deletes the data sets."""
        for place in self.folder.glob("run-*"):
            shutil.rmtree(place)

    def decode(self, processes: Executor, count: int) -> None:
        """Decodes and resizes every file in a bare loop, shared by some processes."""
        parts = [self.files[number::count] for number in range(count)]
        list(processes.map(partial(_decode, image_px=self.image_px), parts))


def _decode(files: list[Path], image_px: list[int] | None) -> None:
    for path in files:
        with Image.open(path) as image:
            pixels = image.convert("RGB")
            if image_px:
                pixels = pixels.resize((image_px[1], image_px[0]), Image.Resampling.BILINEAR)
            np.asarray(pixels)


def main(
    archive: Path | None = typer.Option(None, envvar=ARCHIVE_VARIABLE),
    images: int = 50_000,
    num_photos: int = typer.Option(8_000, "--photos"),
    rounds: int = 3,
    reading: bool = True,
    layouts: bool = True,
) -> None:
    load = f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, medians of {rounds} pairs"
    with TemporaryDirectory() as folder:
        say("writing image files")
        small = _cifar(Path(folder, "cifar"), need_archive(archive), images)
        large = photos(Path(folder, "photos"), num_photos)
        cores = usable_cores()
        with ProcessPoolExecutor(cores, get_context("spawn")) as processes:
            list(processes.map(_decode, [large.files[:50]] * cores, [None] * cores))  # they are there now
            bare = partial(ImageFiles.decode, processes=processes, count=cores)
            rows = [
                _prepared(some, bare, row, "pixels", rounds)
                for some in (small, large)
                for row in (_layouts(some) if layouts else [some.in_folders])
            ]
            rows.append(_prepared(large, bare, large.in_folders, "encoded", rounds))
        report("prepare_speed", f"prepare against decoding and resizing with Pillow in {cores} processes; {load}", rows)
        if not reading:
            return
        rows = [_read(large, size, rounds) for size in READ_PX]
        report("read_speed", f"storage: encoded against torchvision's ImageFolder in a DataLoader; {load}", rows)


def _prepared(some: ImageFiles, decode: Callable[[ImageFiles], None], source: Row, storage: str, rounds: int) -> Row:
    ours, bare, ratio = in_turn(lambda: some.prepare(source, storage, some.image_px), lambda: decode(some), rounds)
    some.clear()
    return {
        "images": some.name,
        "source": source["kind"],
        "storage": storage,
        "images/s": len(some.files) / ours,
        "Pillow alone": len(some.files) / bare,
        "times as fast": 1 / ratio,
    }


def _read(some: ImageFiles, size: int, rounds: int) -> Row:
    """Returns the speed of an epoch of uint8 batches, from the split and from the files."""
    path = some.prepare(some.in_folders, "encoded", [size, size])
    split = ImageDataset(path).stream("train")
    workers = os.cpu_count() or 1
    resize = [transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()]
    folder = datasets.ImageFolder(str(some.folder / "files"), transforms.Compose(resize))
    loader = DataLoader(folder, BATCH, num_workers=workers, persistent_workers=True)

    def ours() -> None:
        assert sum(len(batch) for batch in split.in_order(BATCH)) == len(split)

    def theirs() -> None:
        assert sum(len(batch) for batch, _ in loader) == len(folder)

    seconds, other_seconds, ratio = in_turn(ours, theirs, rounds)
    return {
        "images": some.name,
        "size": f"{size} x {size}",
        "workers": workers,
        "images/s": len(split) / seconds,
        "ImageFolder": len(folder) / other_seconds,
        "times as fast": len(split) / len(folder) / ratio,
    }


def _cifar(folder: Path, archive: Path, num_images: int) -> ImageFiles:
    """Returns the first training images of every class."""
    found: list[tuple[str, str, bytes]] = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if (match := _MEMBER.fullmatch(member.name)) and (file := tar.extractfile(member)):
                found.append((match[1], member.name, file.read()))
    of_class: dict[str, list[bytes]] = {}
    for label, _, content in sorted(found):
        of_class.setdefault(label, []).append(content)
    most = num_images // CLASSES
    return _images("CIFAR-10, 32 x 32", folder, {label: some[:most] for label, some in of_class.items()}, None)


def photos(folder: Path, num_images: int, px: tuple[int, int] = PHOTO_PX) -> ImageFiles:
    """Returns images of smooth noise with a little grain.

    Their files are about as large as photographs of that size [height, width].
    """
    rng = np.random.default_rng(0)
    of_class: dict[str, list[bytes]] = {str(label): [] for label in range(CLASSES)}
    for number in range(num_images):
        patches = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        smooth = np.asarray(patches.resize(px[::-1], Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = (smooth + rng.integers(-8, 9, smooth.shape, dtype=np.int16)).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=85)
        of_class[str(number % CLASSES)].append(file.getvalue())
    return _images(f"photos, {px[1]} x {px[0]}", folder, of_class, PREPARED_PX)


def _images(name: str, folder: Path, of_class: dict[str, list[bytes]], image_px: list[int] | None) -> ImageFiles:
    files = []
    for label, contents in of_class.items():
        (folder / "files" / label).mkdir(parents=True)
        for number, content in enumerate(contents):
            files.append(folder / "files" / label / f"{number:05}.jpg")
            files[-1].write_bytes(content)
    return ImageFiles(name, folder, files, image_px)


def _layouts(some: ImageFiles) -> list[Row]:
    """Returns the settings of every kind of source of the same images."""
    writers: dict[str, Callable[[ImageFiles, Path], Row]] = {
        "manifest": _write_manifest,
        "webdataset": _write_tars,
        "parquet": _write_parquet,
    }
    if some.image_px is None:
        writers["arrays"] = _write_arrays
    rows = [some.in_folders]
    for kind, write in writers.items():
        (some.folder / kind).mkdir()
        rows.append({"kind": kind} | write(some, some.folder / kind))
    return rows


def _write_manifest(some: ImageFiles, path: Path) -> Row:
    with (path / "table.csv").open("w", newline="") as file:
        rows = [(str(image.relative_to(some.folder)), image.parent.name) for image in some.files]
        csv.writer(file).writerows([("path", "label"), *rows])
    return {"path": str(path / "table.csv"), "root": str(some.folder)}


def _write_tars(some: ImageFiles, path: Path) -> Row:
    with tarfile.open(path / "train-0000.tar", "w") as tar:
        for number, file in enumerate(some.files):
            for suffix, content in (("jpg", file.read_bytes()), ("cls", file.parent.name.encode())):
                info = tarfile.TarInfo(f"{number:06}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return {"path": str(path)}


def _write_parquet(some: ImageFiles, path: Path) -> Row:
    contents = pa.array([{"bytes": file.read_bytes(), "path": file.name} for file in some.files])
    table = pa.table({"image": contents, "label": [file.parent.name for file in some.files]})
    pq.write_table(table, path / "train.parquet", row_group_size=1000)
    return {"path": str(path)}


def _write_arrays(some: ImageFiles, path: Path) -> Row:
    np.save(path / "train_images.npy", np.stack([np.asarray(Image.open(file).convert("RGB")) for file in some.files]))
    np.save(path / "train_labels.npy", np.array([file.parent.name for file in some.files]))
    return {"path": str(path)}


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
