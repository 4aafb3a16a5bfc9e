"""Labels of a grid before there are any: made-up ones, of which stores are measured."""

from pathlib import Path

from project import small_params, write_params

from pipeline.core.config import load_section
from pipeline.doctor.labels import LabelStore, made_up_labels
from pipeline.doctor.space import measure_label_bytes
from pipeline.labelling.settings import DumpLabels
from pipeline.labels.encodings import LabelSpace, build_encoding
from pipeline.labels.position_targets import PositionTargets

UINT8 = {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255}
TOPK = {"kind": "topk", "k": 1, "levels": 64, "range_nats": 40.0, "tail": "prior", "tail_classes": 8}
ROWS = {
    "whole": UINT8 | {"positions": {"stride": 1}},
    "cells": TOPK | {"positions": {"stride": 4}},
    "drawn": UINT8 | {"positions": {"count": 10, "seed": 1}},
    "nothing": {"kind": "none"},
}


def test_stores_of_a_grid_are_measured_before_there_is_a_teacher(tmp_path: Path) -> None:
    write_params(tmp_path, small_params())
    dump = load_section(DumpLabels, "dump_labels", tmp_path / "params.yaml")
    space = LabelSpace(9, 1.0, (1.0, 2.0), "grid", (16, 16))
    labels, stores = made_up_labels(space), {}
    assert labels.values.shape == (250, 9, 16, 16)
    for name, row in ROWS.items():
        encoding = build_encoding(row, name)
        codec = encoding.codec(space, encoding.learn(labels.values, space))
        stores[name] = LabelStore(encoding, codec, dump.views, dump.num_views)
        if name != "nothing":
            targets = codec.targets(stores[name].labels(3), 2.0)
            assert isinstance(targets, PositionTargets)
            assert len(targets.rows) == 3 * targets.num_positions  # type: ignore[arg-type]
    sizes = {name: each.size for name, each in measure_label_bytes(dump, stores, labels, 1000).items()}
    most = {"whole": 256 * 9, "cells": 16 * 3 + 9, "drawn": 10 * 9 + 4, "nothing": 1e-9}
    assert all(0 <= sizes[name] < most[name] for name in ROWS)
    assert sizes["whole"] > 5 * sizes["drawn"] > sizes["nothing"] == 0
