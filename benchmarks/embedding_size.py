"""Bytes and fidelity of a real teacher's embeddings of 1,280 dimensions, by encoding.

    PHOTOS_ARCHIVE=photos1000.tar python -m benchmarks.embedding_size

The embeddings are what the last layer of the teacher of `photos_teacher` is given, for resized
crops. Scales are learned on other views than those measured, of the same photographs: there is one
of each class. `same photograph` is the share of views whose nearest other view by cosine, of all
that were measured, is of the same photograph: for the exact embeddings, and for what a reader has.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from jaxtyping import Float

from benchmarks.measure import report
from benchmarks.photos_teacher import photo_embeddings
from pipeline.core.errors import one_line_errors
from pipeline.evaluation.probes import recall
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import Canaries
from pipeline.labels.encodings import build_encoding
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader

_PILOT_VIEWS = 2
Vectors = Float[torch.Tensor, "views photos dimensions"]


def main(views: Annotated[int, typer.Option(min=2)] = 8) -> None:
    vectors = photo_embeddings(views + _PILOT_VIEWS)
    measured, pilot = vectors[:views], vectors[views:].flatten(0, 1)
    exact = {"cosine": None, "relative squared error": None, "off by (cosine of a pair)": None}
    exact_bytes = 4.0 * vectors.shape[2]
    rows: list[dict[str, Any]] = [
        {"embedding": "exact, float32", "bytes": exact_bytes, **exact, "same photograph %": _found(measured)}
    ]
    for name, row in _encodings():
        with TemporaryDirectory() as folder:
            rows.append({"embedding": name, **_measure(Path(folder), row, measured, pilot)})
    count = measured[..., 0].numel()
    report("embedding_size", f"{count:,} embeddings of {vectors.shape[2]:,} dimensions, bytes on disk", rows)


def _encodings() -> list[tuple[str, dict[str, Any]]]:
    sketches = [
        (f"sketch {dimensions}, {values}", {"kind": "sketch", "dimensions": dimensions, "seed": 0, "values": values})
        for dimensions in (256, 128)
        for values in ("float16", "int8")
    ]
    return [("float16", {"kind": "vector_float16"}), ("int8", {"kind": "vector_int8"}), *sketches]


def _measure(folder: Path, row: dict[str, Any], vectors: Vectors, pilot: torch.Tensor) -> dict[str, Any]:
    """Returns the figures of a store of these embeddings."""
    store = _write(folder, row, vectors, pilot)
    read = torch.stack([store.decode(store.read_view(view), 1.0) for view in range(len(vectors))])
    fidelity = store.manifest.fidelity
    assert fidelity is not None, "it holds labels"
    kinds = store.encoding.fields(store.manifest.space)
    size = sum(file.stat().st_size for kind in kinds for file in (store.path / kind / "c").rglob("*") if file.is_file())
    return {
        "bytes": size / store.manifest.num_labels,
        "cosine": 1 - fidelity["cosine_distance"]["mean"],
        "relative squared error": fidelity["relative_error"]["mean"],
        "off by (cosine of a pair)": _off(vectors, read),
        "same photograph %": _found(read),
    }


def _off(vectors: Vectors, read: Vectors) -> float:
    """Returns the root mean squared error of the cosines of pairs of photographs, in one view."""
    exact, found = (F.normalize(each[0].double(), dim=1) for each in (vectors, read))
    pairs = ~torch.eye(len(exact), dtype=torch.bool)
    return (exact @ exact.T - found @ found.T)[pairs].square().mean().sqrt().item()


def _found(vectors: Vectors) -> float:
    photographs = np.tile(np.arange(vectors.shape[1]), len(vectors))
    return 100 * recall((vectors.flatten(0, 1).numpy(), photographs), 1)


def _write(folder: Path, row: dict[str, Any], vectors: Vectors, pilot: torch.Tensor) -> StoreReader:
    """Returns a store of these embeddings."""
    num_views, count, dimensions = vectors.shape
    encoding = build_encoding(row, "benchmark")
    manifest = Manifest(
        encoding=encoding.to_dict(),
        class_names=[],
        num_dimensions=dimensions,
        signal="vector",
        view_numbers=[*range(num_views)],
        num_samples=count,
        block_samples=count,
        temperature=1.0,
        temperatures=[1.0],
        views={"seed": 0, "plain_first": False, "operations": []},
        dataset_fingerprint="benchmark",
        teacher={"fingerprint": "benchmark"},
    )
    ids = np.arange(1, count + 1, dtype=np.uint64)
    canaries = Canaries(ids[:1], np.zeros(1, dtype=np.int64), np.zeros((1, 1, 1, 1), dtype=np.uint8))
    tables = encoding.learn(pilot, manifest.space)
    path = folder / "x.zarr"
    writer = StoreWriter(path, folder / "records", manifest, ids, canaries, tables)
    for block in manifest.blocks():
        writer.write(block, vectors[block.view_index, block.rows.start : block.rows.stop])
    writer.finish()
    return StoreReader(path)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
