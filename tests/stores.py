"""Small stores for tests: the labels of a made-up teacher are a pure function of sample id,
view and its own seed.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import make_split

from pipeline.core import arrays
from pipeline.core.sample_draws import sample_draws
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.first_views import MeanPrediction
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import build_encoding
from pipeline.labels.manifest import Block, Manifest
from pipeline.labels.reader import StoreReader
from pipeline.labels.samples import StoredSamples
from pipeline.views.operations.flips import FlipHorizontal
from pipeline.views.operations.pad_crop import PadCrop
from pipeline.views.plan import RowOrder
from pipeline.views.spec import ViewSpec

CLASSES = ["a", "b", "c", "d", "e", "f"]
SPLIT = make_split(20)
SPEC = ViewSpec(seed=5, plain_first=False, operations=(PadCrop(pad_px=2), FlipHorizontal(probability=0.5)))
TEMPERATURES = [1.0, 2.0, 4.0]
#: Ids whose keys have the same first 6 bytes, found by trying 2^18 of them.
ALIKE = np.array([0x189D1ABCD98D0, 0x2E954ABCD8D63], np.uint64)

Row = dict[str, Any]
FLOAT16: Row = {"kind": "dense_float16"}
UINT8: Row = {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255}
TOPK: Row = {"kind": "topk", "k": 2, "levels": 1000, "range_nats": 40.0, "tail": "prior", "tail_classes": 3}
REST: Row = TOPK | {"tail": "rest"}
ANCHORED: Row = {
    "kind": "anchored",
    **{"k": 3, "step_nats": 0.02, "least_gain_nats": 1e-4},
    **{"anchor_views": 2, "anchor_classes": 3, "anchor_step_nats": 0.5},
}
SAMPLED: Row = {"kind": "sampled", "draws": 12, "seed": 3}
NONE: Row = {"kind": "none"}
#: Of independent classes.
ODDS: Row = {"kind": "log_odds_uint8", "range_nats": 16.0, "steps": 127}
TOP_ODDS: Row = {"kind": "top_odds", "k": 2, "range_nats": 16.0, "steps": 31}
BINARY = {"odds": ODDS, "top_odds": TOP_ODDS}
#: Of a class at each position.
CELLS: Row = TOPK | {"positions": {"stride": 4}}
DRAWN: Row = UINT8 | {"positions": {"count": 5, "seed": 3}}
GRID = {"cells": CELLS, "drawn": DRAWN}
LABELLED = {"float16": FLOAT16, "uint8": UINT8, "topk": TOPK, "rest": REST, "anchored": ANCHORED, "sampled": SAMPLED}


def take(rows: Sequence[int] | np.ndarray | range, split: SplitInMemory = SPLIT) -> SplitInMemory:
    """Returns some images, in that order."""
    chosen = np.asarray(rows)
    return SplitInMemory(split.inputs[chosen], split.hard_labels[chosen], split.sample_ids[chosen])


def keys_of(ids: np.ndarray) -> np.ndarray:
    """Returns the keys by which small stores know some samples."""
    return StoredSamples.of(ids).shortest().keys


def known(store: StoreReader, split: SplitInMemory = SPLIT) -> np.ndarray:
    """Returns the sample ids of a store's rows, all of which are in a split."""
    ids = store.ids_in(split)
    assert ids.all()
    return ids


def ids_of(store: StoreWriter | StoreReader) -> np.ndarray:
    """Returns the sample ids of a store that is written or read."""
    return store.sample_ids if isinstance(store, StoreWriter) else known(store)


def logits_of(sample_ids: np.ndarray, view: int, seed: int = 0) -> torch.Tensor:
    """Returns the logits of teacher `seed` for a view of some images."""
    words = torch.cat([sample_draws(seed, sample_ids, view, slot) for slot in (7, 8)])[: len(CLASSES)]
    return (words.T.float() / 2**32 - 0.5) * 12


def maps_of(sample_ids: np.ndarray, view: int, seed: int, sides: tuple[int, int]) -> torch.Tensor:
    """Returns the logits of teacher `seed` at each position."""
    waves = 4 * torch.sin(torch.arange(len(CLASSES) * sides[0] * sides[1])).reshape(len(CLASSES), *sides)
    return logits_of(sample_ids, view, seed)[:, :, None, None] + waves


def outputs_of(manifest: Manifest, sample_ids: np.ndarray, view: int, seed: int = 0) -> torch.Tensor:
    """Returns the teacher's outputs, of the kind that a store holds."""
    sides = manifest.positions
    return logits_of(sample_ids, view, seed) if sides is None else maps_of(sample_ids, view, seed, sides)


def manifest_of(
    row: Row, split: SplitInMemory = SPLIT, view_numbers: Iterable[int] = range(2), seed: int = 0, **changes: Any
) -> Manifest:
    content: dict[str, Any] = {
        "encoding": row,
        "class_names": CLASSES,
        "view_numbers": list(view_numbers),
        "num_samples": len(split),
        "block_samples": min(8, len(split)),
        "temperature": 1.0,
        "temperatures": TEMPERATURES,
        "views": SPEC.to_dict(),
        "dataset_fingerprint": "00ff",
        "teacher": None if row == NONE else {"fingerprint": f"{seed:04x}", "val_accuracy": 0.9},
    }
    if row in BINARY.values():
        content["signal"] = "binary"
    if "positions" in row:
        content |= {"signal": "grid", "positions": tuple(split.input_shape[1:])}
    return Manifest(**(content | changes))


def tables_of(manifest: Manifest, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns what an encoding learns from teacher `seed`, always of the same pilot."""
    pilot = manifest.space.signal.values(outputs_of(manifest, SPLIT.sample_ids, 99, seed), manifest.temperature)
    return build_encoding(manifest.encoding, "test").learn(pilot, manifest.space)


def begin(
    path: Path,
    row: Row,
    split: SplitInMemory = SPLIT,
    view_numbers: Iterable[int] = range(2),
    seed: int = 0,
    **changes: Any,
) -> StoreWriter:
    num_canaries = changes.pop("num_canaries", 6)
    manifest = manifest_of(row, split, view_numbers, seed, **changes)
    order = RowOrder(split.sample_ids, manifest.block_samples)
    spec = ViewSpec.from_dict(manifest.views, "test")
    canaries = make_canaries(split, spec, manifest.view_numbers, num_canaries, order)
    records = path.with_suffix(".records")
    return StoreWriter(path, records, manifest, split.sample_ids, canaries, tables_of(manifest, seed))


def write(writer: StoreWriter, blocks: Iterable[Block], seed: int = 0) -> None:
    for block in blocks:
        if not writer.anchors.has(block.rows):
            writer.write_anchors(block.rows, mean_of(writer, block.rows, seed))
        writer.write(block, block_logits(writer, block, seed))


def mean_of(store: StoreWriter | StoreReader, rows: range, seed: int = 0) -> torch.Tensor:
    """Returns the mean prediction that anchors of some rows are made of."""
    ids, mean = ids_of(store)[rows.start : rows.stop], MeanPrediction(store.manifest.temperature)
    for view in range(store.encoding.anchor_views):
        mean.add(logits_of(ids, view, seed))
    return mean.log_probs()


def block_logits(store: StoreWriter | StoreReader, block: Block, seed: int = 0) -> torch.Tensor:
    return outputs_of(store.manifest, ids_of(store)[block.rows.start : block.rows.stop], block.view, seed)


def make(
    path: Path,
    row: Row,
    split: SplitInMemory = SPLIT,
    view_numbers: Iterable[int] = range(2),
    seed: int = 0,
    **changes: Any,
) -> StoreReader:
    """Returns a finished store: the first one of its kind in a file of tests is made, the others
    are copies.
    """
    views = list(view_numbers)
    ids = hashlib.sha256(split.sample_ids.tobytes() + split.inputs.numpy().tobytes()).hexdigest()
    kind = repr(
        (os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[0], arrays.CHUNK_BYTES, row, ids, views, seed)
    )
    kind += repr(sorted(changes.items()))
    if kind in _made:
        shutil.copytree(_made[kind], path)
        return StoreReader(path)
    writer = begin(path, row, split, views, seed, **changes)
    write(writer, writer.manifest.blocks(), seed)
    writer.finish()
    _made[kind] = Path(shutil.copytree(path, _templates() / str(len(_made))))
    return StoreReader(path)


_made: dict[str, Path] = {}


@cache
def _templates() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="stores"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def content(path: Path) -> dict[str, bytes]:
    """Returns every file of a store."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def shards(path: Path, array: str) -> list[Path]:
    """Returns the files that hold an array's values."""
    return sorted(file for file in (path / array).rglob("*") if file.is_file() and file.name != "zarr.json")


def same_labels(one: StoreReader, other: StoreReader, views: Iterable[int] | None = None) -> bool:
    """Returns whether two stores of the same samples, in one order, hold the same bits for some
    views (numbers)."""
    for view in one.manifest.view_numbers if views is None else views:
        first, second = (store.read_view(store.manifest.view_numbers.index(view)) for store in (one, other))
        if first.keys() != second.keys() or not all(torch.equal(first[name], second[name]) for name in first):
            return False
    return True


def is_sound(store: StoreReader) -> bool:
    """Returns whether nothing is wrong with a store; raises StoreError where something beside its
    blocks is."""
    store.check_whole()
    return all(fault is None for _, fault in store.check())


def remove(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 4
    file.write_bytes(bytes(data))


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    shutil.move(one, aside)
    shutil.move(other, one)
    shutil.move(aside, other)


Damage = Callable[[Path], object]
