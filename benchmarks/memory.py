"""Memory and speed of `train_student`, with the data held and streamed.

Memory is counted above `import torch`.

    python -m benchmarks.memory [--python another/bin/python]

Every training is a process of its own, best of a Python that has only what a student needs:
PyTorch's CPU-only build, no torchvision, no DVC. Fashion-MNIST is that of `make repro`; the other
sets are made up. Linux only.
"""

import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import typer

from benchmarks.measure import need_data, report
from pipeline.core.config import load_section, load_table
from pipeline.core.errors import one_line_errors
from pipeline.core.files import read_json, write_json
from pipeline.core.progress import say
from pipeline.data.dataset import ImageDataset
from pipeline.data.sample_ids import sample_ids
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.settings import DumpLabels
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.manifest import Manifest
from pipeline.preparation.write import write_dataset

STUDENT, LABELS = "tiny", "dense8"
SHAPE, NUM_CLASSES = (3, 64, 64), 10
VAL_IMAGES = 1000
EPOCHS = 3  # in the first, streamed images are compared with their ids
PART = 4096  # images that are made at a time
FASHION_BUDGET_MB, BUDGET_MB, HELD_MB = 20, 64, 8000
IMPORT_TORCH = "import torch"
_TRAIN = "import runpy; runpy.run_module('stages.train_student', run_name='__main__', alter_sys=True)"
_AND_TELL = """
import atexit
atexit.register(lambda: print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).split()[1]))
"""


@dataclass(frozen=True)
class Measured:
    """A training: the peak of its process, and images a second, validation included."""

    peak_bytes: int
    images_per_second: float


def main(
    python: Path = typer.Option(Path(sys.executable), help="A Python that has only what a student needs."),
    megabytes: list[int] = typer.Option([400, 4000], help="Size of a made-up data set of images."),
    rounds: int = 3,
) -> None:
    need_data()
    bare = peak_of(python, IMPORT_TORCH)
    what = f"MB above import torch ({bare / 1e6:.0f} MB), {_version(python)}"
    with TemporaryDirectory(dir="work") as folder:
        rows = [_compare(python, bare, Path("data"), FASHION_BUDGET_MB, rounds)]
        for size in megabytes:
            made_up = Path(folder, f"{size}MB")
            say(f"making up {size} MB of images")
            make_up(made_up, size * 1_000_000)
            rows.append(_compare(python, bare, made_up, BUDGET_MB, rounds))
    report("memory", f"peak of train_student ({STUDENT}, {LABELS}): {what}; medians of {rounds} pairs", rows)


def _compare(python: Path, bare: int, data: Path, budget_mb: int, rounds: int) -> dict[str, Any]:
    """Returns figures of streaming and holding, in turn, so that lasting noise hits both alike."""
    pairs = [[_train(python, data, budget, number) for budget in (budget_mb, HELD_MB)] for number in range(rounds)]
    streamed, held = zip(*pairs, strict=True)
    dataset = ImageDataset(data / "prepare")

    def above(runs: tuple[Measured, ...]) -> float:
        return statistics.median(run.peak_bytes - bare for run in runs) / 1e6

    return {
        "data": dataset.manifest.source,
        "images MB": dataset.manifest.input_bytes("train", "val") / 1e6,
        "memory_budget_mb": budget_mb,
        "streamed MB": above(streamed),
        "held MB": above(held),
        "streamed images/s": statistics.median(run.images_per_second for run in streamed),
        "held images/s": statistics.median(run.images_per_second for run in held),
        "ratio": statistics.median(s.images_per_second / h.images_per_second for s, h in pairs),
    }


def _train(python: Path, data: Path, budget_mb: int, number: int) -> Measured:
    """Trains a student in a process of its own."""
    dataset = ImageDataset(data / "prepare")
    changes = {"labels": LABELS, "memory_budget_mb": budget_mb, "twin_of": None, "seed": number}
    row = load_table(dict, "students")[STUDENT]
    row |= changes | {"fit": row["fit"] | {"epochs": EPOCHS, "precision": "float32"}}
    with TemporaryDirectory(dir="work") as folder:
        write_json(Path(folder, "params.yaml"), {"students": {STUDENT: row}})  # JSON is YAML
        options = {"params": f"{folder}/params.yaml", "data": data / "prepare", "labels": data / "dump_labels"}
        options |= {name: f"{folder}/{name}" for name in ("out", "reports", "work")}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        peak = peak_of(python, _TRAIN, "--name", STUDENT, *arguments)
        seconds = read_json(Path(folder, "reports", f"{STUDENT}.json"), made_by="train_student")["seconds"]
    return Measured(peak, EPOCHS * dataset.manifest.num_samples["train"] / seconds)


def peak_of(python: Path, code: str, *arguments: str) -> int:
    """Returns the most memory, in bytes, that a process takes to run some code."""
    command = [str(python), "-c", _AND_TELL + code, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1]) * 1024


def _version(python: Path) -> str:
    command = [str(python), "-c", "import torch; print('torch', torch.__version__, torch.get_num_threads(), 'threads')"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def make_up(folder: Path, num_bytes: int) -> None:
    """Writes a data set of smooth random images and a store of random labels for it."""
    rng = np.random.default_rng(0)
    train = _random_split(rng, num_bytes // int(np.prod(SHAPE)) - VAL_IMAGES)
    val = _random_split(rng, VAL_IMAGES)
    names = tuple(str(number) for number in range(NUM_CLASSES))
    write_dataset(folder / "prepare", "made up", names, {"train": train, "val": val, "test": val})
    views = load_section(DumpLabels, "dump_labels").views
    row = load_table(dict, "encodings")[LABELS]
    manifest = Manifest(
        encoding=row,
        class_names=list(names),
        view_numbers=[0],
        num_samples=len(train),
        block_samples=min(65_536, len(train)),
        temperature=1.0,
        temperatures=[1.0],
        views=views.to_dict(),
        dataset_fingerprint="made up",
        teacher={"fingerprint": "made up"},
    )
    path = folder / f"dump_labels/{LABELS}.zarr"
    canaries = make_canaries(train, views, [0], 128)
    writer = StoreWriter(path, folder / "records", manifest, train.sample_ids, canaries, {})
    for block in manifest.blocks():
        logits = rng.standard_normal((len(block.rows), NUM_CLASSES), dtype=np.float32)
        writer.write(block, torch.from_numpy(3 * logits))
    writer.finish()


def _random_split(rng: np.random.Generator, count: int) -> SplitInMemory:
    """Returns images of 64 patches with a little noise, about as compressible as photographs."""
    channels, height, width = SHAPE
    images = np.empty((count, *SHAPE), dtype=np.uint8)
    for start in range(0, count, PART):
        some = images[start : start + PART]
        patches = rng.integers(0, 224, (len(some), channels, 8, 8), dtype=np.uint8)
        some[:] = patches.repeat(height // 8, axis=2).repeat(width // 8, axis=3)
        some += rng.integers(0, 32, some.shape, dtype=np.uint8)
    labels = torch.from_numpy(rng.integers(0, NUM_CLASSES, count))
    return SplitInMemory(torch.from_numpy(images), labels, sample_ids(images))


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
