"""Another reader, of embeddings: written from docs/store-format.md alone, it reads what ours
reads.
"""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from other_views import philox
from stores import content, ids_of, logits_of, make, shards
from test_other_reader import Array, OtherReader, RefusedError, tensorstore

from pipeline.labels.reader import StoreReader

__all__ = ["tensorstore"]  # a fixture


class VectorReader(OtherReader):
    """A store of embeddings, as the document has it."""

    @property
    def dimensions(self) -> int:
        """The numbers of a label: those of the embedding, or of its sketch."""
        return int(self.encoding.get("dimensions", self.manifest["num_dimensions"]))

    @property
    def in_bytes(self) -> bool:
        """Whether numbers are codes on a scale."""
        return self.encoding["kind"] == "vector_int8" or self.encoding.get("values") == "int8"

    @property
    def measured(self) -> list[float]:
        """The places of the two distances, as of temperatures."""
        return [0, 1]

    def fields(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        if self.in_bytes:
            return {"vector_codes": ("int8", (self.dimensions,))}
        return {"vectors": ("float16", (self.dimensions,))}

    def tables(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        names = ("vector_centres", "vector_steps") if self.in_bytes else ()
        return dict.fromkeys(names, ("float32", (self.dimensions,)))

    def fill_value(self, name: str) -> float:
        return -128 if self.in_bytes else float("nan")

    def fidelity(self) -> dict[str, Any]:
        labels = self.arrays["fidelity_labels"].astype(np.int64).sum(axis=0)
        figures = super().fidelity()["kl_nats"]
        distances = {"relative_error": figures["0"], "cosine_distance": figures["1"]}
        return {"num_labels": int(labels[0]), "same_direction": labels[1] / labels[0], **distances}

    def numbers(self, view_index: int) -> Array:
        """Returns the numbers of all labels of a view."""
        (name,) = self.fields()
        values, fill = self.arrays[name][view_index], self.fill_value(name)
        if (np.isnan(values) if np.isnan(fill) else values == fill).any():
            raise RefusedError(f"{name} was never written")
        if not self.in_bytes:
            return values.astype(np.float64)
        centres, steps = (self.arrays[name].astype(np.float64) for name in self.tables())
        return centres + values * steps

    def bound(self, exact: Array) -> Array:
        """Returns how far numbers may be from exact ones that do not clip."""
        if not self.in_bytes:
            return 2**-11 * np.abs(exact) + 2**-25
        return self.arrays["vector_steps"].astype(np.float64) / 2 * np.ones_like(exact) + 1e-5

    def projected(self, vectors: Array) -> Array:
        """Returns what a store keeps of embeddings, before it rounds."""
        if self.encoding["kind"] != "sketch":
            return vectors
        whole, kept, seed = self.manifest["num_dimensions"], self.dimensions, self.encoding["seed"]
        words = [
            philox((kept * d + j, 0, 0, 0), (seed % 2**32, seed >> 32))[:2] for d in range(whole) for j in range(kept)
        ]
        u, other = ((np.array(part) + 0.5) / 2**32 for part in zip(*words, strict=True))
        gaussian = (np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * other)).reshape(whole, kept)
        q, r = np.linalg.qr(gaussian)
        return vectors @ (q * np.sign(np.diag(r)) * np.sqrt(whole / kept))


# Here the reader ends.

D = 6
EMBEDDINGS: dict[str, Any] = {
    **{"class_names": [], "signal": "vector", "num_dimensions": D},
    **{"temperature": 1.0, "temperatures": [1.0]},
}
SKETCH = {"kind": "sketch", "dimensions": 4, "seed": 2**33 + 7, "values": "int8"}
CASES: dict[str, dict[str, Any]] = {
    "float16": {"kind": "vector_float16"},
    "int8": {"kind": "vector_int8"},
    "sketch": SKETCH,
    "sketch, float16": SKETCH | {"values": "float16"},
}


@dataclass(frozen=True)
class Made:
    """A store, its two readers, and the exact embeddings by view and row."""

    path: Path
    ours: StoreReader
    other: VectorReader
    exact: Array


@pytest.fixture(scope="module", params=CASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tensorstore: ModuleType) -> Made:
    path = tmp_path_factory.mktemp("made") / "x.zarr"
    store = make(path, CASES[request.param], **EMBEDDINGS)
    exact = torch.stack([logits_of(ids_of(store), view) for view in store.manifest.view_numbers])
    return Made(path, store, VectorReader(path, tensorstore), exact.double().numpy())


def test_embeddings_are_read_alike_and_are_near_the_exact_ones(made: Made) -> None:
    for view_index, exact in enumerate(made.exact):
        ours = made.ours.codec.decode(made.ours.read_view(view_index), 1.0).double().numpy()
        others = made.other.numbers(view_index)
        np.testing.assert_allclose(ours, others, rtol=1e-5, atol=1e-5)
        wanted = made.other.projected(exact)
        if made.other.in_bytes:
            centres, steps = (made.other.arrays[name].astype(np.float64) for name in made.other.tables())
            wanted = wanted.clip(centres - 127 * steps, centres + 127 * steps)
        assert (np.abs(others - wanted) <= made.other.bound(wanted)).all()


def test_arrays_digests_and_fill_values_are_those_of_the_document(made: Made) -> None:
    other = made.other
    per_view = (other.num_views, other.num_samples)
    fields = {name: (kind, per_view + shape) for name, (kind, shape) in other.fields().items()}
    assert {entry.name for entry in made.path.iterdir() if entry.is_dir()} == set(other.arrays)
    for name, (kind, shape) in {**other.expected(), **fields, **other.tables()}.items():
        assert other.arrays[name].dtype == kind, name
        assert all(want in (None, got) for got, want in zip(other.arrays[name].shape, shape, strict=True)), name
    for view_index in range(other.num_views):
        digests = [other.digest(view_index, rows) for rows in other.blocks()]
        assert other.arrays["block_digest"][view_index].tolist() == digests


def test_the_fidelity_is_that_of_the_labels(made: Made) -> None:
    stated, found = made.other.manifest["fidelity"], made.other.fidelity()
    assert stated.keys() == found.keys()
    for name, value in found.items():
        assert stated[name] == pytest.approx(value, rel=1e-12), name
    decoded = np.concatenate([made.other.numbers(view) for view in range(made.other.num_views)])
    exact = np.concatenate([made.other.projected(view) for view in made.exact])
    error = ((exact - decoded) ** 2).sum(axis=1) / (exact**2).sum(axis=1)
    cosine = (exact * decoded).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(decoded, axis=1)
    assert stated["relative_error"]["mean"] == pytest.approx(error.mean(), rel=1e-3)
    assert stated["cosine_distance"]["max"] == pytest.approx((1 - cosine).max(), rel=1e-2, abs=1e-9)
    assert stated["same_direction"] == (cosine >= 0.99).mean()


def test_a_lost_block_reads_as_the_fill_value(made: Made, tmp_path: Path, tensorstore: ModuleType) -> None:
    for name, file in content(made.path).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(file)
    (field,) = made.other.fields()
    shards(tmp_path, field)[0].unlink()
    with pytest.raises(RefusedError, match="was never written"):
        VectorReader(tmp_path, tensorstore).numbers(0)
