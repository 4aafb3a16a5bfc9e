"""Images for loaders to give: prepared, with random labels, and as files in class folders."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from benchmarks.prepare_speed import ImageFiles
from pipeline.core.config import load_section
from pipeline.data.dataset import ImageDataset
from pipeline.labelling.settings import DumpLabels
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.manifest import Manifest
from pipeline.views.spec import ViewSpec

LEAST_MB, PLENTY_MB = 200, 4_000  # what colour images of 224 x 224 need to be streamed, and more than all of them
_ROW = {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255}
_NUM_VIEWS = 2


@dataclass(frozen=True)
class Images:
    """The same images as a prepared data set with labels, and as files in class folders.

    Args:
        memory_mb: The memory that our loaders may take.
        most: The images that a DataLoader takes a round: it is slower.
    """

    name: str
    prepared: Path
    store: Path
    files: Path
    size_px: int
    memory_mb: int
    most: int


def fashion_mnist(folder: Path, most: int) -> Images:
    """Returns the images that `make repro` left, the first ones as PNG files, too."""
    prepared, files = Path("data/prepare"), folder / "files"
    split = ImageDataset(prepared).split("train")
    for number, (pixels, label) in enumerate(zip(split.first(most), split.hard_labels.tolist(), strict=False)):
        (files / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(files / str(label) / f"{number:05}.png")
    return Images(
        "Fashion-MNIST", prepared, random_labels(prepared, folder), files, split.input_shape[-1], PLENTY_MB, most
    )


def from_files(some: ImageFiles, size_px: int, *, streamed: bool) -> Images:
    """Returns the images of files, prepared: as files that are decoded at every reading, unless
    they are too few to be streamed, or as pixels in memory.
    """
    prepared = some.prepare(some.in_folders, "encoded" if streamed else "pixels", [size_px, size_px])
    needed_mb = ImageDataset(prepared).manifest.input_bytes("train") * 4 // 3 // 10**6
    memory_mb = LEAST_MB if streamed else PLENTY_MB
    name = f"{some.name}, {'in memory' if needed_mb <= memory_mb else 'decoded at every reading'}"
    store = random_labels(prepared, prepared.parent)
    return Images(name, prepared, store, some.folder / "files", size_px, memory_mb, len(some.files))


def random_labels(prepared: Path, folder: Path, views: ViewSpec | None = None) -> Path:
    """Returns a store of random labels for a prepared data set; of views as in params.yaml, unless
    others are given.
    """
    dataset, settings = ImageDataset(prepared), load_section(DumpLabels, "dump_labels")
    views = views or settings.views
    split, classes = dataset.stream("train"), dataset.manifest.class_names
    manifest = Manifest(
        encoding=_ROW,
        class_names=classes,
        view_numbers=list(range(_NUM_VIEWS)),
        num_samples=len(split),
        block_samples=min(settings.block_samples, len(split)),
        temperature=settings.temperature,
        temperatures=settings.temperatures,
        views=views.to_dict(),
        dataset_fingerprint=dataset.manifest.fingerprints["train"],
        teacher={"fingerprint": "random"},
    )
    canaries = make_canaries(split, views, manifest.view_numbers, min(128, len(split)))
    writer = StoreWriter(folder / "labels.zarr", folder / "records", manifest, split.sample_ids, canaries)
    for block in manifest.blocks():
        writer.write(block, 3 * torch.randn(len(block.rows), len(classes)))
    writer.finish()
    return folder / "labels.zarr"
