"""Stores of 10^4 to 10^7 labels: written, verified, loaded, joined and decoded.

Prints the cost per label, its growth with the number of labels, memory, and the number of files.

    python -m benchmarks.label_read [most labels]

Each size runs in a process of its own, so that its peak memory can be measured.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.measure import in_turn, peak_bytes, report
from pipeline.data.sample_ids import sample_ids
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import build_encoding
from pipeline.labels.fields import gather
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.views.spec import ViewSpec

SIZES = ((10_000, 1), (100_000, 1), (1_000_000, 1), (1_000_000, 10))  # samples, views
COSTS = ("written", "verified", "read", "trained on")
ROWS = {
    "dense8": {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255},
    "top2": {"kind": "topk", "k": 2, "levels": 64, "range_nats": 40.0, "tail": "prior", "tail_classes": 256},
}
NUM_CLASSES = 10
BLOCK_SAMPLES = 131_072
BATCH = 128
WINDOW = 8192  # labels that training decodes at once
ROUNDS = 5
SPEC = ViewSpec(seed=0, plain_first=False, operations=())


def main(most: int = 10_000_000) -> None:
    rows = []
    for name in ROWS:
        for samples, views in SIZES:
            if samples * views <= most:
                command = [sys.executable, "-m", "benchmarks.label_read", name, str(samples), str(views)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                rows.append(json.loads(done.stdout))
    costs = _costs(rows)
    claim = f"one thread; {NUM_CLASSES} classes; times are medians of {ROUNDS} rounds in turn"
    report("label_read", claim, [{key: value for key, value in row.items() if key not in COSTS} for row in rows])
    report("label_scaling", f"microseconds per label, and the slope of log seconds over log labels; {claim}", costs)


def _costs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the cost of a label at each size, by store and kind of cost.

    A slope of 1 means that the cost of a label does not depend on the size; below 1, it falls.
    """
    table = []
    for name in ROWS:
        some = [row for row in rows if row["store"] == name]
        labels = [row["labels"] for row in some]
        for cost in COSTS:
            seconds = [row[cost] for row in some]
            slope = np.polyfit(np.log(labels), np.log(seconds), 1)[0] if len(labels) > 1 else float("nan")
            each = {f"{count:,}": 1e6 * spent / count for count, spent in zip(labels, seconds, strict=True)}
            table.append({"store": name, "cost": cost, **each, "slope": float(slope)})
    return table


def measure(name: str, samples: int, views: int) -> dict[str, Any]:
    """Returns all figures of one store."""
    torch.set_num_threads(1)
    baseline = peak_bytes()
    with TemporaryDirectory() as folder:
        path = Path(folder, "x.zarr")
        write_seconds, files = _write(path, ROWS[name], samples, views)
        written = peak_bytes()
        start = time.perf_counter()
        store = StoreReader(path)
        store.check_whole()
        assert all(fault is None for _, fault in store.check())
        verify_seconds = time.perf_counter() - start
        labels = store.read_view(0)
        raw = Path(folder, "plain")
        raw.write_bytes(b"".join(values.numpy().tobytes() for values in labels.values()))
        load, _, load_ratio = in_turn(lambda: store.read_view(0), raw.read_bytes, ROUNDS)
        read = peak_bytes()
        order = np.random.default_rng(0).permutation(samples)
        rows = torch.from_numpy(order)
        arrays = [values.numpy() for values in labels.values()]
        joined, _, gather_ratio = in_turn(
            lambda: [gather(labels, rows[start : start + WINDOW]) for start in range(0, samples, WINDOW)],
            _batches(order, lambda start, stop: [array[order[start:stop]] for array in arrays]),
            ROUNDS,
        )
        ready, _, _ = in_turn(_ready(store, labels, rows), lambda: None, ROUNDS)
        view_bytes = sum(array.nbytes for array in arrays)
        costs = (write_seconds, verify_seconds, _median(lambda: _read(store)), _median(_trained_on(store)))
        return {
            "store": name,
            "labels": samples * views,
            "files": files,
            "write M labels/s": samples * views / write_seconds / 1e6,
            "verify M/s": samples * views / verify_seconds / 1e6,
            "load a view M/s": samples / load / 1e6,
            "load / plain file": load_ratio,
            "join M/s": samples / joined / 1e6,
            "join / numpy": gather_ratio,
            "join + decode M/s": samples / ready / 1e6,
            "write MB": (written - baseline) / 1e6,
            "read MB": (read - baseline) / 1e6,
            "one view MB": view_bytes / 1e6,
            **dict(zip(COSTS, costs, strict=True)),
        }


def _median(action: Callable[[], None]) -> float:
    """Returns the median seconds of some calls."""
    seconds, _, _ = in_turn(action, lambda: None, ROUNDS)
    return seconds


def _read(store: StoreReader) -> None:
    """Reads every view, whole."""
    for view in range(store.manifest.num_views):
        store.read_view(view)


def _trained_on(store: StoreReader) -> Callable[[], None]:
    """Returns a function that does all that labels cost a training of one epoch a view.

    Images of another order are matched by their ids, once; each view is read, joined, decoded and
    cut into batches.
    """
    ids = np.random.default_rng(1).permutation(np.arange(1, store.manifest.num_samples + 1, dtype=np.uint64))

    def run() -> None:
        rows = torch.from_numpy(store.find(ids))
        for view in range(store.manifest.num_views):
            _ready(store, store.read_view(view), rows)()

    return run


def _write(path: Path, row: dict[str, Any], samples: int, views: int) -> tuple[float, int]:
    """Returns seconds of encoding, measuring and writing, and the number of files.

    The time to draw the labels is not counted.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (samples, 1, 2, 4), dtype=np.uint8)
    split = SplitInMemory(
        torch.from_numpy(images), torch.zeros(samples, dtype=torch.int64), sample_ids(images[:1]).repeat(samples)
    )
    split.sample_ids[:] = rng.permutation(np.arange(1, samples + 1, dtype=np.uint64))
    encoding = build_encoding(row, "benchmark")
    manifest = Manifest(
        encoding=row,
        class_names=[str(number) for number in range(NUM_CLASSES)],
        view_numbers=list(range(views)),
        num_samples=samples,
        block_samples=min(BLOCK_SAMPLES, samples),
        temperature=1.0,
        temperatures=[1.0, 4.0],
        views=SPEC.to_dict(),
        dataset_fingerprint="synthetic",
        teacher={"fingerprint": "synthetic"},
    )
    tables = encoding.learn(torch.log_softmax(_logits(rng, 4096), dim=1), manifest.space)
    canaries = make_canaries(split, SPEC, manifest.view_numbers, 128)
    start = time.perf_counter()
    writer = StoreWriter(path, path.with_name("records"), manifest, split.sample_ids, canaries, tables)
    drawing = 0.0
    for block in manifest.blocks():
        begun = time.perf_counter()
        logits = _logits(rng, len(block.rows))
        drawing += time.perf_counter() - begun
        writer.write(block, logits)
    writer.finish()
    seconds = time.perf_counter() - start - drawing
    return seconds, sum(1 for file in path.rglob("*") if file.is_file())


def _logits(rng: np.random.Generator, count: int) -> torch.Tensor:
    """Returns random logits that are mostly sure of one class."""
    logits = rng.standard_normal((count, NUM_CLASSES), dtype=np.float32) * 2
    logits[np.arange(count), rng.integers(0, NUM_CLASSES, count)] += 7
    return torch.from_numpy(logits)


def _batches(order: np.ndarray, take: Callable[[int, int], object]) -> Callable[[], None]:
    def run() -> None:
        for start in range(0, len(order), BATCH):
            take(start, start + BATCH)

    return run


def _ready(store: StoreReader, labels: dict[str, torch.Tensor], rows: torch.Tensor) -> Callable[[], None]:
    """Returns a function that joins, decodes and batches labels as training does."""

    def windows() -> Iterator[torch.Tensor]:
        for start in range(0, len(rows), WINDOW):
            targets = store.codec.targets(gather(labels, rows[start : start + WINDOW]), 4.0)
            assert isinstance(targets, torch.Tensor)
            yield from targets.split(BATCH)

    def run() -> None:
        for _ in windows():
            pass

    return run


if __name__ == "__main__":
    if len(sys.argv) <= 2:
        main(*map(int, sys.argv[1:]))
    else:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
