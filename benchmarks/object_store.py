"""The dump to an object store on loopback against the dump to a disk, both as the whole command.

Of the first images that `make repro` left, with its teacher and the stores of params.yaml. The
server is a plain one in Python, in a process of its own; with a delay it answers as late as one
that is some way off.
"""

import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import typer

from benchmarks.measure import all_in_turn, need_data, report
from benchmarks.object_server import ObjectServer
from pipeline.core.errors import one_line_errors
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import SplitInMemory
from pipeline.preparation.write import write_dataset
from stages import dump_labels

PARAMS = Path("params.yaml")
TEACHER = Path("data/train_teacher")


def main(num_images: int = 8192, block_samples: int = 2048, rounds: int = 5, delay_ms: float = 30.0) -> None:
    need_data()
    dataset = ImageDataset(Path("data/prepare"))
    with TemporaryDirectory() as name, redirect_stderr(StringIO()):
        folder = Path(name)
        splits = {split: _first(dataset.split(split), num_images) for split in ("train", "val", "test")}
        write_dataset(folder / "prepare", "the first images", dataset.manifest.class_names, splits)
        text = PARAMS.read_text().replace("block_samples: 8192", f"block_samples: {block_samples}")
        (folder / "params.yaml").write_text(text)
        with _server(0.0) as near, _server(delay_ms / 1000) as far:
            places = {"a disk": None, "an object store": near, f"one that answers after {delay_ms:g} ms": far}
            acts = [_dump(folder, environment) for environment in places.values()]
            acts[0]()  # what is slow once, in every process
            times = all_in_turn(acts, rounds)
    rows = [
        {
            "to": place,
            "seconds": statistics.median(seconds),
            "of a disk's": statistics.median(own / disk for own, disk in zip(seconds, times[0], strict=True)),
        }
        for place, seconds in zip(places, times, strict=True)
    ]
    claim = (
        f"the command `dump_labels` on {num_images:,} images in blocks of {block_samples:,}, median of {rounds} rounds"
    )
    report("object_store", claim, rows)


def _first(split: SplitInMemory, count: int) -> SplitInMemory:
    some = torch.arange(min(count, len(split)))
    return SplitInMemory(split.inputs[some], split.hard_labels[some], split.sample_ids[some.numpy()])


def _dump(folder: Path, environment: dict[str, str] | None) -> Callable[[], object]:
    """Returns a dump to a new place each time, in a bucket or on the disk."""
    number = 0

    def act() -> None:
        nonlocal number
        number += 1
        options: dict[str, Any] = {"out": folder / f"out{number}", "work": folder / f"work{number}"}
        if environment is not None:
            os.environ.update(environment)
            options = {"to": f"s3://bucket/{number}"}
        dump_labels.main(folder / "params.yaml", folder / "prepare", TEACHER, **options)

    return act


@contextmanager
def _server(delay_s: float) -> Iterator[dict[str, str]]:
    """Starts a server in a process of its own; yields the variables by which it is found."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, delay_s), daemon=True)
    process.start()
    yield here.recv()
    here.send("end")
    process.join()


def _serve(connection: Connection, delay_s: float) -> None:
    with ObjectServer() as server:
        server.delay_s = delay_s
        connection.send(server.environment)
        connection.recv()


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
