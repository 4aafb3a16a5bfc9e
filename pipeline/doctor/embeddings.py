"""Rows of embeddings: their stores' bytes, and the students that learn from them."""

import math
from collections.abc import Mapping
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.doctor.findings import Findings
from pipeline.doctor.folders import Folders
from pipeline.doctor.space import LabelBytes
from pipeline.labelling.teacher import embedding_size
from pipeline.labels.encodings import EncodingRow, LabelSpace, encodings_of
from pipeline.labels.reader import StoreReader
from pipeline.student.settings import TrainStudent


def embedding_bytes(
    encodings: Mapping[str, EncodingRow], space: LabelSpace, folders: Folders, findings: Findings, where: str
) -> dict[str, LabelBytes]:
    """Returns the most bytes of a label in each store of embeddings, and checks that the present
    teacher has an embedding and that each row fits it; without a teacher nothing is known.
    """
    rows = {name: row for name, row in encodings_of(encodings).items() if row.is_of_embeddings}
    if not rows:
        return {}
    if not (folders.teacher / "meta.json").exists():
        findings.warning(f"{where}: no teacher yet, so that the bytes of {', '.join(rows)} are not counted")
        return {}
    dimensions = findings.attempt(embedding_size, folders.teacher)
    if dimensions is None:
        return {}
    found, own = {}, space.of_embeddings(dimensions)
    for name, row in rows.items():
        findings.attempt(row.check, own, f"{where}.{name}")
        size = sum(math.prod(field.shape) * field.dtype.itemsize for field in row.fields(own).values())
        found[name] = LabelBytes(size, f"before compression, of {dimensions:,} dimensions")
    return found


def find_features(row: TrainStudent, encodings: Mapping[str, EncodingRow], folder: Path, where: str) -> None:
    """Raises ConfigError or StoreError where a student names no store of embeddings, now or after
    the dump.
    """
    if row.features is None:
        return
    planned = {name: each.is_of_embeddings for name, each in encodings_of(encodings).items()}
    path = folder / f"{row.features}.zarr"
    if row.features not in planned and path.exists():
        planned[row.features] = StoreReader(path).manifest.is_of_embeddings
    if not planned.get(row.features):
        there = sorted(name for name, fits in planned.items() if fits)
        expected = (
            f"a store of embeddings: a row of `encodings` of the kind vector_float16, vector_int8 or sketch {there}"
        )
        raise ConfigError(f"{where}.features", repr(row.features), expected=expected)
