"""Stores of soft labels, as the evaluation shows them."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.results.evaluation import StoreRow

_IMPORTED = "imported logits"  # the teacher of the stores that import_labels makes


def read_manifests(labels: Path) -> dict[Path, Manifest]:
    """Returns the manifests of the stores in a folder."""
    return {path: StoreReader(path).manifest for path in sorted(labels.glob("*.zarr"))}


def runs_elsewhere(teacher: Path, manifests: Mapping[Path, Manifest]) -> bool:
    """Returns whether there is no network of the teacher, because its logits were imported."""
    named = {manifest.teacher.get("model") for manifest in manifests.values() if manifest.teacher}
    return named == {_IMPORTED} and not (teacher / "meta.json").exists()


def store_row(path: Path, manifest: Manifest) -> StoreRow:
    """Returns a store's size on disk, and its manifest's figures."""
    return StoreRow(
        encoding=manifest.encoding,
        temperature=manifest.temperature,
        num_views=manifest.num_views,
        num_samples=manifest.num_samples,
        num_labels=manifest.num_labels,
        size_bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        label_bytes=manifest.label_bytes,
        fidelity=manifest.fidelity,
    )
