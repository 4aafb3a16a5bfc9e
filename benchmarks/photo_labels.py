"""Bytes per label and KL on a real teacher of 1000 classes, 50 views of 1,000 photographs.

    PHOTOS_ARCHIVE=photos1000.tar python -m benchmarks.photo_labels

Each of our encodings is written as a real store; a label's bytes are those of its fields and its
share of its sample's anchor, at 64, 50 and 16 views. Four views are rows of one block, so that
blocks are as large as those of a real data set. Of 50 views every fourth is measured, so that as
many of them are among the four of the anchors as of all. Tables are learned from 14 other views of
the same photographs, because there is one photograph a class: a data set with more of them has
other tables, better or worse.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from jaxtyping import Float
from matplotlib.figure import Figure

from benchmarks.measure import RESULTS, report
from benchmarks.peers import peers
from benchmarks.photos_teacher import photo_logits, statistics
from pipeline.core.errors import one_line_errors
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import Canaries
from pipeline.labels.encodings import build_encoding
from pipeline.labels.fidelity import KlTally
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.signals.losses import kl_divergence_with_log_targets

VIEWS, PILOT_VIEWS, MANY_VIEWS, FEW_VIEWS, ANCHOR_VIEWS = 50, 14, 64, 16, 4
TEMPERATURES = (1.0, 2.0, 4.0)
_STACKED = 4  # views that share a block
_ANCHORED = (
    (16, 0.05),
    (24, 0.03),
    (32, 0.1),
    (32, 0.05),
    (32, 0.03),
    (48, 0.05),
    (48, 0.04),
    (64, 0.05),
    (64, 0.02),
    (128, 0.01),
)
Logits = Float[torch.Tensor, "views samples classes"]


def _encodings() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "dense float16", {"kind": "dense_float16"}
    yield "dense 64 levels", {"kind": "dense_uint8", "range_nats": 40.0, "levels": 64}
    for k in (1, 3, 5, 10, 16):
        row = {"kind": "topk", "k": k, "levels": 64, "range_nats": 40.0, "tail_classes": 256}
        yield f"top-{k} prior", row | {"tail": "prior"}
        if k in (5, 10):
            yield f"top-{k} even tail", row | {"tail": "uniform"}
    for listed, gain in _ANCHORED:
        yield f"anchor of {listed}, {gain:g}", anchored(listed, gain)


def anchored(listed: int, gain: float, step: float = 0.75) -> dict[str, Any]:
    """Returns a row of anchored labels."""
    label = {"k": 8, "step_nats": step, "least_gain_nats": gain}
    return {
        "kind": "anchored",
        **label,
        "anchor_views": ANCHOR_VIEWS,
        "anchor_classes": listed,
        "anchor_step_nats": 1.0,
    }


def main(
    temper: Annotated[float, typer.Option(help="What the teacher's logits are divided by.")] = 1.0,
) -> None:
    logits = photo_logits(VIEWS + PILOT_VIEWS) / temper
    measured = logits[: VIEWS - 2 : ANCHOR_VIEWS]
    figures = ", ".join(f"{key} {value:.4g}" for key, value in statistics(measured).items())
    rows = [*_others(measured), *_ours(measured, logits[:ANCHOR_VIEWS], logits[VIEWS:])]
    rows.sort(key=lambda row: float(row[f"{VIEWS} views"]))
    name = "label_size_photos" if temper == 1 else f"label_size_photos_{temper:g}"
    report(
        name, f"bytes of a label and KL(teacher || label) in nats; {measured[..., 0].numel():,} labels; {figures}", rows
    )
    _draw(rows, RESULTS / f"{name}.png")


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws bytes against KL at temperature 1."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    groups = {
        f"anchored, {VIEWS} views": ("anchor", f"{VIEWS} views", "o"),
        f"anchored, {FEW_VIEWS} views": ("anchor", f"{FEW_VIEWS} views", "P"),
        "topk, prior": ("prior", "bytes", "s-"),
        "topk, even tail": ("even", "bytes", "^-"),
        "others": ("(", "bytes", "kx"),
    }
    for label, (part, column, style) in groups.items():
        points = [
            (row[column], row["KL at 1"]) for row in rows if part in row["label"] and "fp16 logits" not in row["label"]
        ]
        axes.plot(*zip(*sorted(points), strict=True), style, label=label, markersize=4, linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="bytes a label", ylabel="mean KL (nats)")
    axes.grid(which="both", alpha=0.2)
    axes.legend()
    figure.savefig(path, dpi=100)


def _others(logits: Logits) -> Iterator[dict[str, Any]]:
    some = torch.log_softmax(logits.flatten(0, 1), dim=1)
    for layout in peers(some.shape[1]):
        tallies: dict[float, list[KlTally]] = {t: [] for t in TEMPERATURES}
        for part in some.split(500):
            decoded = layout.decode(layout.encode(part), some.shape[1])
            for t in TEMPERATURES:
                exact, read = (torch.log_softmax(scores.double() / t, dim=1) for scores in (part, decoded))
                tallies[t].append(KlTally.of(kl_divergence_with_log_targets(exact, read)))
        whole = {t: KlTally.merge(parts) for t, parts in tallies.items()}
        kl = {f"{t:g}": {"mean": w.total_nats / w.count, "p999": w.percentile(0.999)} for t, w in whole.items()}
        yield _row(f"({layout.name})", layout.record_bytes, 0, 0, kl)


def _ours(logits: Logits, first: Logits, others: Logits) -> Iterator[dict[str, Any]]:
    pilot = torch.log_softmax(others.flatten(0, 1), dim=1)
    for name, row in _encodings():
        with TemporaryDirectory() as folder:
            store = _write(Path(folder) / "labels", row, _stacked(logits), pilot, first)
            once = _write(Path(folder) / "anchors", row, logits[:1], pilot, first)
            sizes = {field: _size(store.path / field) for field in store.encoding.fields(store.manifest.space)}
            anchors = sum(_size(once.path / field) for field in store.encoding.anchors(store.manifest.space))
            tables = sum(_size(store.path / field) for field in store.encoding.tables(store.manifest.space))
            assert store.manifest.fidelity is not None, "it holds labels"
            count = store.manifest.num_labels
            print(f"{name}: " + ", ".join(f"{field} {size / count:.3f}" for field, size in sizes.items()))
            each = sum(sizes.values()) / count
            yield _row(name, each, anchors / logits.shape[1], tables, store.manifest.fidelity["kl_nats"])


def _stacked(logits: Logits) -> Logits:
    """Returns several views in one, each of the samples as often as there are."""
    num_views, count, num_classes = logits.shape
    return logits[: num_views // _STACKED * _STACKED].reshape(-1, _STACKED * count, num_classes)


def _write(folder: Path, row: Mapping[str, Any], logits: Logits, pilot: torch.Tensor, first: Logits) -> StoreReader:
    """Returns a store of these labels, with anchors of the first views."""
    num_views, count, num_classes = logits.shape
    encoding = build_encoding(dict(row), "benchmark")
    manifest = Manifest(
        encoding=encoding.to_dict(),
        class_names=[str(number) for number in range(num_classes)],
        view_numbers=[*range(num_views)],
        num_samples=count,
        block_samples=count,
        temperature=1.0,
        temperatures=list(TEMPERATURES),
        views={"seed": 0, "plain_first": False, "operations": []},
        dataset_fingerprint="benchmark",
        teacher={"fingerprint": "benchmark"},
    )
    ids = np.arange(1, count + 1, dtype=np.uint64)
    canaries = Canaries(ids[:1], np.zeros(1, dtype=np.int64), np.zeros((1, 1, 1, 1), dtype=np.uint8))
    path = folder / "x.zarr"
    writer = StoreWriter(path, folder / "records", manifest, ids, canaries, encoding.learn(pilot, manifest.space))
    if encoding.anchor_views:
        means = torch.log_softmax(torch.log_softmax(first, dim=2).mean(dim=0), dim=1)
        means = means.repeat(count // first.shape[1], 1)
        for rows in manifest.ranges():
            writer.write_anchors(rows, means[rows.start : rows.stop])
    for block in manifest.blocks():
        writer.write(block, logits[block.view_index, block.rows.start : block.rows.stop])
    writer.finish()
    return StoreReader(path)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in (folder / "c").rglob("*") if file.is_file())


def _row(name: str, label: float, anchor: float, tables: int, kl: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"label": name, "bytes": label, "anchor": anchor}
    row |= {f"{views} views": label + anchor / views for views in (MANY_VIEWS, VIEWS, FEW_VIEWS)}
    row |= {"tables kB": tables / 1000}
    for t in TEMPERATURES:
        row |= {f"KL at {t:g}": kl[f"{t:g}"]["mean"], f"p99.9 at {t:g}": kl[f"{t:g}"]["p999"]}
    return row


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
