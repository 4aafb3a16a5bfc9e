"""The soft-label store, format 1 (docs/store-format.md): manifest, writer, reader.

A block is one view of one range of samples: one file per field, written whole by one owner. A block counts as written
when its record stands beside the store; records hold the block's fidelity and go when the store is finished.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt64

from pipeline.arrays import ArrayGroup
from pipeline.artifacts import fingerprint, write_json
from pipeline.canaries import Canaries
from pipeline.encodings import Encoding, build_encoding
from pipeline.errors import StoreError
from pipeline.fidelity import Fidelity
from pipeline.views import ViewSpec

FORMAT = "potstill-soft-labels"
VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """What a store says of itself; `complete` is set last."""

    encoding: dict[str, Any]
    class_names: list[str]
    num_views: int
    num_samples: int
    block_samples: int
    temperature: float
    temperatures: list[float]
    views: dict[str, Any]
    dataset_fingerprint: str
    teacher: dict[str, Any] | None
    fidelity: dict[str, Any] | None = None
    label_bytes: float | None = None
    complete: bool = False
    fingerprint: str = ""
    format: str = FORMAT
    version: int = VERSION

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def blocks(self) -> list["Block"]:
        """Every block, view by view."""
        starts = range(0, self.num_samples, self.block_samples)
        return [
            Block(view, range(start, min(start + self.block_samples, self.num_samples)))
            for view in range(self.num_views)
            for start in starts
        ]


@dataclass(frozen=True)
class Block:
    """One view of a range of a store's rows."""

    view: int
    rows: range

    @property
    def name(self) -> str:
        return f"view {self.view}, samples {self.rows.start} to {self.rows.stop - 1}"


class StoreWriter:
    """Writes one store block by block; what is already there is kept, so that a killed writer goes on."""

    def __init__(
        self,
        path: Path,
        records: Path,
        manifest: Manifest,
        sample_ids: UInt64[np.ndarray, " samples"],
        canaries: Canaries,
    ) -> None:
        self.path = path
        self._records = records
        self._manifest = manifest
        self._encoding = build_encoding(manifest.encoding, str(path))
        self._fields = self._encoding.fields(manifest.num_classes)
        if not ((records / "begun.json").exists() and (path / "zarr.json").exists()):
            # Also where the store was moved away and its records are left: they must not speak for a new one.
            shutil.rmtree(records, ignore_errors=True)
            self._begin(sample_ids, canaries)
        self._group = ArrayGroup.create(path, asdict(manifest))

    def _begin(self, sample_ids: np.ndarray, canaries: Canaries) -> None:
        group = ArrayGroup.create(self.path, asdict(self._manifest))
        group.create_array("sample_id", sample_ids.shape, sample_ids.dtype, fill_value=0)
        group.write("sample_id", sample_ids)
        for field in fields(canaries):
            array = getattr(canaries, field.name)
            group.create_array(f"canary_{field.name}", array.shape, array.dtype, fill_value=0)
            group.write(f"canary_{field.name}", array)
        shape = (self._manifest.num_views, self._manifest.num_samples)
        for name, label_field in self._fields.items():
            group.create_array(
                name,
                (*shape, *label_field.shape),
                label_field.dtype,
                fill_value=label_field.fill_value,
                row_axis=1,
                block_rows=self._manifest.block_samples,
            )
        write_json(self._records / "begun.json", {})

    def has(self, block: Block) -> bool:
        """Whether the block is on disk, whole."""
        return not self._fields or self._record(block).exists()

    def write(self, block: Block, logits: Float[torch.Tensor, "rows classes"]) -> None:
        """Encodes and commits a block of finite teacher logits, and measures its fidelity."""
        if not self._fields:
            return
        stored = self._manifest.temperature
        encoded = self._encoding.encode(torch.log_softmax(logits / stored, dim=1))
        for name, values in encoded.items():
            self._group.write(name, values.cpu().numpy(), block.view, _slice(block.rows))
        exact = {t: torch.log_softmax(logits.double() / t, dim=1) for t in self._manifest.temperatures}
        decoded = {
            t: self._encoding.decode(encoded, stored_temperature=stored, temperature=t)
            for t in self._manifest.temperatures
        }
        write_json(self._record(block), Fidelity.of(exact, decoded).to_dict())

    def finish(self) -> Manifest:
        """Writes the manifest with `complete`; raises StoreError while a block is missing."""
        fidelity = None
        if self._fields:
            parts = []
            for block in self._manifest.blocks():
                if not self.has(block):
                    raise StoreError(self.path, f"block {block.name} is missing", mend="run the dump again")
                parts.append(Fidelity.from_dict(json.loads(self._record(block).read_text())))
            fidelity = Fidelity.merge(parts).summary()
        num_labels = self._manifest.num_views * self._manifest.num_samples
        # Of the arrays only: the manifest's own size would depend on this very number.
        size = sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file() and p.name != "zarr.json")
        content = asdict(self._manifest) | {
            "fidelity": fidelity,
            "label_bytes": round(size / num_labels, 4),
            "complete": True,
            "fingerprint": "",
        }
        content["fingerprint"] = _manifest_fingerprint(content)
        self._group.set_attributes(content)
        return Manifest(**content)

    def _record(self, block: Block) -> Path:
        return self._records / f"{block.view}-{block.rows.start}.json"


class StoreReader:
    """A finished store: labels of whole views, checked as they are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._group = ArrayGroup.open(path, made_by="dump_labels")
        self.manifest = _parse_manifest(self._group.attributes, path)
        self.views = ViewSpec.from_dict(self.manifest.views, f"{path}: views")
        self.encoding: Encoding = build_encoding(self.manifest.encoding, f"{path}: encoding")
        self._fields = self.encoding.fields(self.manifest.num_classes)
        self._check_shapes()

    @property
    def sample_ids(self) -> UInt64[np.ndarray, " samples"]:
        """Which image each row belongs to."""
        return self._group.read_whole("sample_id")

    @property
    def canaries(self) -> Canaries:
        """Thumbnails of a few views."""
        return Canaries(**{field.name: self._group.read_whole(f"canary_{field.name}") for field in fields(Canaries)})

    def read_view(self, view: int, rows: range | None = None) -> dict[str, Shaped[torch.Tensor, "samples ..."]]:
        """The fields of a view (of some of its rows); raises StoreError where a block is missing or damaged."""
        rows = rows or range(self.manifest.num_samples)
        labels = {}
        for name, field in self._fields.items():
            values = self._group.read(name, view, _slice(rows))
            if field.is_unwritten(values):
                lost = self._lost_block(name, view, rows)
                raise StoreError(f"{self.path}/{name}", f"block {lost} is missing", mend=_MEND)
            labels[name] = torch.from_numpy(values)
        return labels

    def decode(
        self, labels: dict[str, Shaped[torch.Tensor, "labels ..."]], temperature: float
    ) -> Float[torch.Tensor, "labels classes"]:
        """Log-probabilities of rows of `read_view` at a temperature of the caller's choice."""
        return self.encoding.decode(labels, stored_temperature=self.manifest.temperature, temperature=temperature)

    def check(self) -> Iterator[tuple[Block, StoreError | None]]:
        """Reads every block; gives each with what is wrong with it, or None."""
        for block in self.manifest.blocks():
            try:
                self.read_view(block.view, block.rows)
            except StoreError as error:
                yield block, error
            else:
                yield block, None

    def _lost_block(self, name: str, view: int, rows: range) -> str:
        for block in self.manifest.blocks():
            if block.view == view and block.rows.start < rows.stop and rows.start < block.rows.stop:
                values = self._group.read(name, view, _slice(block.rows))
                if self._fields[name].is_unwritten(values):
                    return block.name
        raise AssertionError("a block was missing a moment ago")

    def _check_shapes(self) -> None:
        shape = (self.manifest.num_views, self.manifest.num_samples)
        expected = {name: (*shape, *field.shape) for name, field in self._fields.items()}
        expected["sample_id"] = (self.manifest.num_samples,)
        for name, wanted in expected.items():
            if (found := self._group.shape(name)) != wanted:
                raise StoreError(f"{self.path}/{name}", f"shape {found}", expected=f"{wanted} (manifest)", mend=_MEND)


_MEND = "restore it (`dvc checkout --force`), or delete the store and run `dvc repro dump_labels`"


def _slice(rows: range) -> slice:
    return slice(rows.start, rows.stop)


def _parse_manifest(content: Mapping[str, Any], path: Path) -> Manifest:
    if content.get("format") != FORMAT:
        raise StoreError(path, "not a soft-label store", expected=f"format {FORMAT!r} in its attributes")
    if content.get("version") != VERSION:
        raise StoreError(path, f"version {content.get('version')}", expected=f"version {VERSION}", mend=_MEND)
    try:
        manifest = Manifest(**content)
    except TypeError as error:
        raise StoreError(path, f"its manifest can't be read ({error})", mend=_MEND) from None
    if not manifest.complete:
        raise StoreError(path, "is unfinished", expected="complete: true", mend="run `dvc repro dump_labels`")
    if manifest.fingerprint != _manifest_fingerprint(content):
        raise StoreError(path, "its manifest is not as it was written (its fingerprint does not match)", mend=_MEND)
    return manifest


def _manifest_fingerprint(content: Mapping[str, Any]) -> str:
    return fingerprint({key: value for key, value in content.items() if key != "fingerprint"})
