"""Bytes per label and KL to the teacher: every encoding beside other systems' record layouts.

All of them hold the same labels.

Teachers: the default one (as its float16 store has it), a residual network on CIFAR-10 (where
`python -m benchmarks.cifar_teacher` has been run) and a simulated one of 1000 classes.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numcodecs import Blosc

from benchmarks.cifar_teacher import FOLDER as CIFAR
from benchmarks.measure import need_data, report
from benchmarks.peers import peers
from benchmarks.simulated_teacher import simulated_logits, statistics
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import build_encoding
from pipeline.labels.fidelity import KlTally
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.signals.losses import kl_divergence_with_log_targets
from pipeline.views.spec import ViewSpec

Labels = Float[torch.Tensor, "labels classes"]
BLOCK_SAMPLES = 8192
SIMULATED = 20_000
PILOT_PER_CLASS = 50  # of the simulated teacher
PILOT = 4096
ROWS_AT_ONCE = 500


def main(only: Sequence[str] = ()) -> None:
    need_data()
    for name, log_probs, pilot in _teachers(only or ("default", "cifar10", "simulated")):
        rows = [*_others(log_probs), *_ours(log_probs, pilot)]
        rows.sort(key=lambda row: float(row["bytes"]))
        n = f"{len(log_probs):,} labels of {log_probs.shape[1]} classes, temperature 1"
        report(f"label_size_{name}", f"bytes of a label on disk against KL(teacher || label) in nats; {n}", rows)
        _compare(rows)


def _teachers(names: Sequence[str]) -> Iterator[tuple[str, Labels, Labels]]:
    """Yields a teacher's name, labels to measure, and others to learn tables from."""
    if "default" in names:
        store = StoreReader(Path("data/dump_labels/dense16.zarr"))
        views = [store.decode(store.read_view(view), 1.0) for view in (0, 1)]
        yield "default", views[0], views[1][:: len(views[1]) // PILOT]
    if "cifar10" in names and (CIFAR / "logits.npy").exists():
        views = [torch.log_softmax(torch.from_numpy(logits), dim=1) for logits in np.load(CIFAR / "logits.npy")]
        yield "cifar10", views[0], views[1][:: len(views[1]) // PILOT]
    if "simulated" in names:
        logits = simulated_logits(SIMULATED + 1000 * PILOT_PER_CLASS)
        figures = statistics(logits[:SIMULATED])
        print("\nsimulated teacher:", ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))
        log_probs = torch.log_softmax(logits, dim=1)
        yield "simulated", log_probs[:SIMULATED], log_probs[SIMULATED:]


def _others(log_probs: Labels) -> Iterator[dict[str, Any]]:
    for layout in peers(log_probs.shape[1]):
        records = layout.encode(log_probs)
        tally = KlTally.merge(
            _tally(part, layout.decode(some, log_probs.shape[1]))
            for part, some in zip(log_probs.split(ROWS_AT_ONCE), _pieces(records), strict=True)
        )
        packed = len(Blosc(cname="zstd", clevel=9, shuffle=Blosc.BITSHUFFLE, typesize=1).encode(records.T.copy()))
        yield _row(layout.name, layout.record_bytes, tally, ours=False, packed=packed / len(records))


def _ours(log_probs: Labels, pilot: Labels) -> Iterator[dict[str, Any]]:
    for name, row, temperatures in _ladder(log_probs.shape[1]):
        with TemporaryDirectory() as folder:
            store, label_bytes = _write(Path(folder), row, temperatures, log_probs, pilot)
            tally = KlTally.merge(
                _tally(part, store.decode(store.read_view(0, range(start, start + len(part))), 1.0))
                for start, part in zip(
                    range(0, len(log_probs), ROWS_AT_ONCE), log_probs.split(ROWS_AT_ONCE), strict=True
                )
            )
            table_bytes = store.manifest.table_bytes
        yield _row(name, label_bytes, tally, ours=True, tables=table_bytes)


def _ladder(num_classes: int) -> Iterator[tuple[str, dict[str, Any], list[float]]]:
    yield "dense float16", {"kind": "dense_float16"}, [1.0]
    for levels in (255, 64, 32):
        yield f"dense {levels} levels", {"kind": "dense_uint8", "range_nats": 40.0, "levels": levels}, [1.0]
    for k in (1, 2, 3, 4, 5, 8, 10, 16, 32):
        if k < num_classes:
            for levels in (255, 64, 32) if num_classes < 100 else (64, 32):
                yield f"top-{k} {levels} levels", _topk(k, levels, "prior"), [1.0]
            yield f"top-{k} 64 levels, even tail", _topk(k, 64, "uniform"), [1.0]
            yield f"top-{k} 64 levels, temperatures 1 2 4", _topk(k, 64, "prior"), [1.0, 2.0, 4.0]
    for draws in (12, 50):
        yield f"sampled, {draws} draws", {"kind": "sampled", "draws": draws, "seed": 0}, [1.0]


def _topk(k: int, levels: int, tail: str) -> dict[str, Any]:
    return {"kind": "topk", "k": k, "levels": levels, "range_nats": 40.0, "tail": tail, "tail_classes": 256}


def _write(
    folder: Path, row: Mapping[str, Any], temperatures: list[float], log_probs: Labels, pilot: Labels
) -> tuple[StoreReader, float]:
    """Returns a store of one view of these labels, and the bytes per label of its label files."""
    count, num_classes = log_probs.shape
    spec = ViewSpec(seed=0, plain_first=False, operations=())
    ids = np.arange(1, count + 1, dtype=np.uint64)
    split = SplitInMemory(torch.zeros((count, 1, 1, 1), dtype=torch.uint8), torch.zeros(count, dtype=torch.int64), ids)
    encoding = build_encoding(dict(row), "benchmark")
    manifest = Manifest(
        encoding=dict(row),
        class_names=[str(number) for number in range(num_classes)],
        view_numbers=[0],
        num_samples=count,
        block_samples=BLOCK_SAMPLES,
        temperature=1.0,
        temperatures=temperatures,
        views=spec.to_dict(),
        dataset_fingerprint="benchmark",
        teacher={"fingerprint": "benchmark"},
    )
    tables = encoding.learn(pilot, manifest.space)
    path = folder / "x.zarr"
    writer = StoreWriter(path, folder / "records", manifest, ids, make_canaries(split, spec, [0], 1), tables)
    for block in manifest.blocks():
        writer.write(block, log_probs[block.rows.start : block.rows.stop])
    writer.finish()
    fields = encoding.fields(manifest.space)
    size = sum(file.stat().st_size for name in fields for file in (path / name / "c").rglob("*") if file.is_file())
    return StoreReader(path), size / count


def _tally(log_probs: Labels, decoded: Labels) -> KlTally:
    return KlTally.of(kl_divergence_with_log_targets(log_probs.double(), decoded.double()))


def _pieces(records: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(records), ROWS_AT_ONCE):
        yield records[start : start + ROWS_AT_ONCE]


def _row(
    name: str, size: float, tally: KlTally, *, ours: bool, packed: float | None = None, tables: int | None = None
) -> dict[str, Any]:
    return {
        "label": name if ours else f"({name})",
        "bytes": size,
        "packed": packed if packed is not None else "",
        "KL mean": tally.total_nats / tally.count,
        "KL p99.9": tally.percentile(0.999),
        "tables kB": tables / 1000 if tables else "",
        "ours": ours,
    }


def _compare(rows: list[dict[str, Any]]) -> None:
    """Prints two of our labels beside each record of others.

    They are our smallest label of no higher KL, and our best label of no more bytes.
    """
    mine = [row for row in rows if row["ours"]]
    for other in (row for row in rows if not row["ours"]):
        as_good = min(
            (r for r in mine if r["KL mean"] <= other["KL mean"]), key=lambda r: float(r["bytes"]), default=None
        )
        best = min((r for r in mine if r["bytes"] <= other["bytes"]), key=lambda r: float(r["KL mean"]), default=None)
        line = f"{other['label']} {other['bytes']:.1f} B, KL {other['KL mean']:.2g}:"
        if as_good:
            line += f" no worse from {as_good['bytes']:.2f} B on ({as_good['label']}), {other['bytes'] / as_good['bytes']:.1f} times smaller;"
        if best:
            line += f" with as many bytes KL {best['KL mean']:.2g} ({best['label']})"
        print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
