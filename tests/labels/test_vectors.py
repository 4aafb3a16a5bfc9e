"""Embeddings in stores: round trips within their bounds, sketches that keep distances, fidelity."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from other_views import philox
from stores import SPLIT, begin, block_logits, ids_of, is_sound, logits_of, manifest_of

from pipeline.core.errors import ConfigError, StoreError
from pipeline.labelling.card import OwnersWords, store_card
from pipeline.labelling.closeness import closeness_line
from pipeline.labelling.derive.base import Destination
from pipeline.labelling.derive.checks import need_alike
from pipeline.labelling.derive.merge import Merge
from pipeline.labelling.derive.subset import Subset
from pipeline.labelling.inspect import describe_store, store_text
from pipeline.labelling.inspect_vectors import InspectedVectors
from pipeline.labels.encodings import LabelSpace, build_encoding
from pipeline.labels.encodings.sketch import projection
from pipeline.labels.fields import encode_logits, measure_labels
from pipeline.labels.manifest import Manifest, parse_manifest
from pipeline.labels.reader import StoreReader
from pipeline.signals.vector import VECTOR, cosine_distance, relative_error
from pipeline.student.losses import build_loss

D = 24
SPACE = LabelSpace(D, 1.0, (1.0,), "vector")
FLOAT16, INT8 = {"kind": "vector_float16"}, {"kind": "vector_int8"}
SKETCH = {"kind": "sketch", "dimensions": 8, "seed": 3, "values": "int8"}
ROWS = {"float16": FLOAT16, "int8": INT8, "sketch int8": SKETCH, "sketch float16": SKETCH | {"values": "float16"}}
OF_SIX: dict[str, Any] = {
    **{"class_names": [], "signal": "vector", "num_dimensions": 6},
    **{"temperature": 1.0, "temperatures": [1.0]},
}


def embeddings(count: int, seed: int = 0) -> torch.Tensor:
    """Returns made-up embeddings whose dimensions differ in spread; one is constant."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.logspace(-2, 2, D)
    spread[5] = 0
    return torch.randn(count, D, generator=generator) * spread + 0.5


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_what_is_written_is_read_within_its_bound(row: dict[str, Any]) -> None:
    encoding, vectors = build_encoding(row, "test"), embeddings(200)
    tables = encoding.learn(vectors, SPACE)
    codec = encoding.codec(SPACE, tables)
    labels = encode_logits(codec, vectors, np.arange(200, dtype=np.uint64), 0)
    read, exact = codec.decode(labels, 1.0), codec.kept(vectors.double(), labels)
    assert read.shape == (200, encoding.num_values(SPACE))
    bound = exact.abs() * 2**-11 + 2**-25
    if tables:
        bound = torch.from_numpy(tables["vector_steps"]).double() / 2 * (1 + 1e-5) + exact.abs() * 1e-6
    assert ((read - exact).abs() <= bound).all()
    found = measure_labels(codec, vectors, labels).summary()
    assert found["num_labels"] == 200
    assert found["same_direction"] == 1
    assert found["relative_error"]["mean"] == pytest.approx(relative_error(exact, read.double()).mean().item())
    assert found["cosine_distance"]["max"] == pytest.approx(cosine_distance(exact, read.double()).max().item())
    assert re.search("mean cosine (0.99|1.0)", closeness_line(found, "vector"))


def test_a_value_beyond_the_pilot_clips_to_the_end_of_the_scale() -> None:
    encoding = build_encoding(INT8, "test")
    tables = encoding.learn(embeddings(50), SPACE)
    codec = encoding.codec(SPACE, tables)
    read = codec.decode(codec.encode(torch.full((1, D), 1e6), np.arange(1, dtype=np.uint64), 0), 1.0)[0]
    end = tables["vector_centres"] + 127 * tables["vector_steps"]
    torch.testing.assert_close(read, torch.from_numpy(end))


def test_a_sketch_keeps_squared_distances_on_average_over_seeds() -> None:
    x, y = embeddings(1, 1).double()[0], embeddings(1, 2).double()[0]
    wanted = (x - y).square().sum()
    found = torch.stack([((x - y) @ projection(D, 6, seed)).square().sum() for seed in range(400)]) / wanted
    assert found.mean() == pytest.approx(1, abs=4 * found.std().item() / 400**0.5)
    assert found.std() < (2 / 6) ** 0.5
    matrix = projection(D, 6, 9)
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(6, dtype=torch.float64) * D / 6)
    whole = (embeddings(5).double() @ projection(D, D, 9)).norm(dim=1)  # a rotation
    torch.testing.assert_close(whole, embeddings(5).double().norm(dim=1))


def test_distances_of_embeddings() -> None:
    a = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    b = torch.tensor([[3.0, 4.5], [0.0, 0.0], [1.0, 0.0], [-2.0, 0.0]])
    torch.testing.assert_close(relative_error(a, b), torch.tensor([0.01, 0.0, 1.0, 9.0]))
    torch.testing.assert_close(cosine_distance(a, b)[1:], torch.tensor([0.0, 1.0, 2.0]))
    assert VECTOR.same_answer(a, b).tolist() == [True, True, False, False]


def store_of(path: Path, row: dict[str, Any] = INT8) -> StoreReader:
    writer = begin(path, row, **OF_SIX)
    for block in writer.manifest.blocks():
        writer.write(block, block_logits(writer, block))
    writer.finish()
    return StoreReader(path)


def test_a_store_of_embeddings_is_read_checked_and_shown(tmp_path: Path) -> None:
    store = store_of(tmp_path / "own.zarr")
    assert is_sound(store)
    assert store.manifest.num_classes == 6
    exact = logits_of(ids_of(store), 1)
    assert cosine_distance(exact, store.decode(store.read_view(1), 1.0)).mean() < 1e-2
    text = store_text(describe_store(store))
    assert "embeddings of 6 dimensions" in text
    assert "cosine distance" in text
    assert "classes" not in text
    shown = InspectedVectors.read(store, "row:3", 2)
    assert "nearest in view 0" in shown.text()
    assert len(shown.nearest) == 2
    view = store.decode(store.read_view(0), 1.0)
    others = [(1 - cosine_distance(view[3:4], view[n : n + 1]).item(), n) for n in range(20) if n != 3]
    assert [row for row, _ in shown.nearest] == [n for _, n in sorted(others, reverse=True)[:2]]
    with pytest.raises(StoreError, match="temperature: 2; expected 1; embeddings have no temperature"):
        store.codec.require(2.0)
    with pytest.raises(StoreError, match=r"holds embeddings.*take one teacher's"):
        need_alike(store, store)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises((ConfigError, StoreError)) as caught:
        call()
    assert len(str(caught.value)) <= 500
    return str(caught.value)


def test_what_does_not_fit_is_one_line() -> None:
    classes = LabelSpace(6, 1.0, (1.0,))
    assert "holds labels of the signal vector" in refused(lambda: build_encoding(INT8, "e").check(classes, "e"))
    dense = build_encoding({"kind": "dense_float16"}, "e")
    assert "one for vector labels" in refused(lambda: dense.check(SPACE, "e"))
    many = build_encoding(SKETCH | {"dimensions": D + 1}, "e")
    assert f"at most {D}" in refused(lambda: many.check(SPACE, "e"))
    loss = build_loss({"kind": "kd", "standardize": False}, "students.a.loss")
    assert "name the store in `features`" in refused(lambda: loss.check_signal("vector", "students.a.loss"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_dimensions": None}, "num_dimensions None"),
        ({"class_names": ["a"]}, "1 class names"),
        ({"temperatures": [1.0, 2.0]}, "they have none but 1"),
        ({"signal": "categorical"}, "num_dimensions 6"),
    ],
)
def test_a_manifest_without_sense_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    whole = manifest_of(INT8, **OF_SIX, complete=True)
    assert parse_manifest(whole.signed(), "here").num_dimensions == 6
    with pytest.raises(StoreError, match=said):
        parse_manifest(replace(whole, **changes).signed(), "here")


def test_stores_of_classes_are_written_as_before() -> None:
    content = manifest_of({"kind": "none"}, SPLIT).signed()
    assert "num_dimensions" not in content
    assert Manifest(**content).num_dimensions is None


@pytest.mark.parametrize("row", [INT8, SKETCH | {"dimensions": 4}], ids=["int8", "sketch"])
def test_another_reader_comes_to_the_same_by_the_document_alone(row: dict[str, Any], tmp_path: Path) -> None:
    store = store_of(tmp_path / "own.zarr", row)
    group = zarr.open_group(store.path, mode="r")
    codes, centres, steps = (np.asarray(group[f"vector_{name}"]) for name in ("codes", "centres", "steps"))
    np.testing.assert_allclose(store.decode(store.read_view(1), 1.0), centres + codes[1] * steps, rtol=1e-6)
    manifest = dict(group.attrs)
    assert (manifest["signal"], manifest["num_dimensions"], manifest["class_names"]) == ("vector", 6, [])
    sums, labels = np.asarray(group["fidelity_nats"]), np.asarray(group["fidelity_labels"])
    for place, name in enumerate(("relative_error", "cosine_distance")):
        stated = manifest["fidelity"][name]
        assert stated["mean"] == pytest.approx(sums[:, place, 0].sum() / labels[:, 0].sum())
        assert stated["max"] == sums[:, place, 1].max()


def test_a_sketch_is_made_as_the_document_says() -> None:
    normal = np.empty((6, 4))
    for d, j in np.ndindex(6, 4):
        w = philox((4 * d + j, 0, 0, 0), (3, 0))
        u, v = (w[0] + 0.5) / 2**32, (w[1] + 0.5) / 2**32
        normal[d, j] = math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)
    columns: list[np.ndarray] = []
    for column in normal.T:  # Gram and Schmidt: the diagonal of R is positive
        rest = column - sum((one * (one @ column) for one in columns), np.zeros(6))
        columns.append(rest / np.linalg.norm(rest))
    np.testing.assert_allclose(projection(6, 4, 3), math.sqrt(6 / 4) * np.stack(columns, axis=1), atol=1e-12)


def test_stores_of_embeddings_are_cut_merged_and_packed(tmp_path: Path) -> None:
    store = store_of(tmp_path / "own.zarr")
    parts = []
    for number in range(2):
        out = tmp_path / f"{number}.zarr"
        Subset(store, samples=None, views=[number]).make(Destination(out, out.with_suffix(".r"), lambda count: None))
        parts.append(StoreReader(out))
    Merge(parts).make(Destination(tmp_path / "both.zarr", tmp_path / "both.r", lambda count: None))
    both = StoreReader(tmp_path / "both.zarr")
    assert is_sound(both)
    assert torch.equal(both.read_view(1)["vector_codes"], store.read_view(1)["vector_codes"])
    assert "embeddings of 6 dimensions" in store_card(store, OwnersWords(), None)
