"""Tables that encodings learn, in a store that grows and in one that is dumped from the start with
all views.
"""

from pathlib import Path

import numpy as np
import pytest
from stores import BINARY, LABELLED, NONE, SPEC, SPLIT, TEMPERATURES, TOPK, Row, make, manifest_of
from test_labelling import oracle

from pipeline.labelling.run import _about, _pilot, learn_tables
from pipeline.labelling.settings import DumpLabels
from pipeline.labelling.stores import DumpPlan, TeacherFacts
from pipeline.labelling.takeover import EarlierStore
from pipeline.labels.encodings import build_encoding
from pipeline.labels.samples import StoredSamples


def plan_of(row: Row, num_views: int) -> DumpPlan:
    settings = DumpLabels(
        temperature=1.0,
        temperatures=TEMPERATURES,
        pilot_labels=40,
        block_samples=8,
        num_canaries=6,
        num_views=num_views,
        batch_size=7,
        device="cpu",
        precision="float32",
        compile=False,
        memory_budget_mb=100,
        views=SPEC,
    )
    encodings, manifests = {"x": build_encoding(row, "x")}, {"x": manifest_of(row, view_numbers=range(num_views))}
    return DumpPlan(settings, encodings, manifests, TeacherFacts("0000", "oracle", {}, 0.9, 1.0, "float32"))


def tables(folder: Path, row: Row, num_views: int, source: EarlierStore | None = None) -> dict[str, np.ndarray]:
    sources = {"x": source} if source else {}
    plan = plan_of(row, num_views)
    return learn_tables(folder / "tables.safetensors", plan, sources, _pilot(plan, oracle()[0], SPLIT)).get("x", {})


def test_a_store_that_grows_keeps_its_tables_and_one_dumped_from_the_start_learns_others(tmp_path: Path) -> None:
    first, other = tables(tmp_path / "first", TOPK, 2), tables(tmp_path / "other", TOPK, 4)
    assert any(not np.array_equal(first[name], other[name]) for name in first)
    again = tables(tmp_path / "again", TOPK, 2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    earlier = EarlierStore(make(tmp_path / "x.zarr", TOPK), StoredSamples.of(SPLIT.sample_ids))
    grown = tables(tmp_path / "grown", TOPK, 4, earlier)
    assert all(np.array_equal(grown[name], table) for name, table in earlier.store.tables.items())
    told = _about(earlier.store.manifest, earlier)
    assert "some taken over from an earlier dump, with the tables that it learned" in told


@pytest.mark.parametrize("name", [*LABELLED, *BINARY, "none"])
def test_no_other_encoding_learns_anything_that_the_views_decide(name: str, tmp_path: Path) -> None:
    row = (LABELLED | BINARY).get(name, NONE)
    assert bool(tables(tmp_path, row, 2)) == (row.get("tail") == "prior" or row["kind"] == "top_odds")
