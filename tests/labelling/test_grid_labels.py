"""Labels of a grid from the teacher to the store and back: dumped in bounded blocks, verified,
grown, repaired, cut, averaged and shown.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from maps import GRID, NUM_CLASSES, make_maps
from project import small_params, write_params
from stores import flip, shards
from teachers import edit_params, run_dump, run_verify

from pipeline.core.errors import ConfigError, DataError, StoreError, VerificationError
from pipeline.data.dataset import ImageDataset
from pipeline.labelling import at_once
from pipeline.labelling.at_once import lowered_blocks, samples_at_once, samples_of_block
from pipeline.labelling.card import OwnersWords, store_card
from pipeline.labelling.derive.average import Average
from pipeline.labelling.derive.base import Destination
from pipeline.labelling.derive.merge import Merge
from pipeline.labelling.derive.subset import Subset
from pipeline.labelling.foreign import check_layout
from pipeline.labelling.inspect import describe_store, store_text
from pipeline.labelling.packing import pack_store
from pipeline.labelling.repair import broken_blocks, repair_store
from pipeline.labelling.stores import unfit_encodings
from pipeline.labelling.teacher import Teacher
from pipeline.labelling.tune_source import labels_of_store
from pipeline.labels.encodings import LabelSpace, build_encoding, build_row
from pipeline.labels.join import match_rows
from pipeline.labels.position_targets import PositionTargets
from pipeline.labels.reader import StoreReader
from pipeline.models.saved import ModelMeta, model_fingerprint, write_model
from pipeline.preparation.write import write_dataset
from pipeline.training.validation import Validation
from pipeline.views.plan import plan_view
from stages import inspect_labels

NAMES = ("ground", "grey", "bright")
UINT8: dict[str, Any] = {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255}
TOPK = {"kind": "topk", "k": 1, "levels": 64, "range_nats": 40.0, "tail": "prior", "tail_classes": 8}
ROWS: dict[str, Any] = {
    "whole": UINT8 | {"positions": {"stride": 1}},
    "cells": TOPK | {"positions": {"stride": 4}},
    "drawn": UINT8 | {"positions": {"count": 10, "seed": 1}},
    "nothing": {"kind": "none"},
}
VIEWS = {"seed": 1, "plain_first": True, "operations": [{"kind": "pad_crop", "pad_px": 1}]}


def settle(folder: Path) -> Path:
    """Makes a project of maps with a teacher that nobody trained, and no students."""
    params = small_params()
    params["encodings"], params["students"] = dict(ROWS), {}
    params["dump_labels"] |= {"num_views": 2, "pilot_labels": 40, "block_samples": 4096, "views": VIEWS}
    write_params(folder, params)
    splits = {"train": make_maps(20), "val": make_maps(12, seed=1), "test": make_maps(8, seed=2)}
    data = write_dataset(folder / "data/prepare", "made up", NAMES, splits)
    meta = ModelMeta.untrained("unet_small", {"widths": [4, 8], "depth": 1, "up": "bilinear"}, data, {})
    (folder / "data/train_teacher").mkdir()
    model = meta.build(3, folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    figures = Validation(splits["val"], None, torch.device("cpu"), signal=GRID).measure(model)
    meta = meta.trained("float32", {"accuracy": figures["accuracy"], "calibration_temperature": 1.0})
    write_model(folder / "data/train_teacher", meta, model.state_dict())
    return folder


@pytest.fixture(scope="module")
def small_blocks() -> Any:
    """Has 8 samples in a block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(at_once, "_BYTES", 9 * 4 * NUM_CLASSES * 64)
        yield


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory, unflushed: None, small_blocks: None) -> Path:
    folder = settle(tmp_path_factory.mktemp("grid"))
    run_dump(folder)
    return folder


@pytest.fixture
def copied(dumped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dumped, tmp_path / "own"))


def reader(folder: Path, name: str) -> StoreReader:
    return StoreReader(folder / f"data/dump_labels/{name}.zarr")


def outputs(folder: Path, view: int) -> torch.Tensor:
    """Returns what the teacher predicts for a view."""
    teacher = Teacher.read(folder / "data/train_teacher", torch.device("cpu"), 64)
    split = ImageDataset(folder / "data/prepare").stream("train")
    plan = plan_view(split, reader(folder, "whole").views, view, rows=np.arange(len(split)))
    with torch.no_grad():
        return torch.as_tensor(teacher.model(plan.render(slice(None))))


def to(path: Path) -> Destination:
    return Destination(path, path.with_suffix(".records"))


def test_one_pass_writes_labels_at_positions_in_bounded_blocks(dumped: Path) -> None:
    for view in range(2):
        exact = outputs(dumped, view)
        for name in ("whole", "cells", "drawn"):
            store = reader(dumped, name)
            assert (store.manifest.signal, store.manifest.positions) == ("grid", (8, 8))
            assert store.manifest.block_samples == 8
            targets = store.codec.targets(store.read_view(view), 2.0)
            assert isinstance(targets, PositionTargets)
            wanted = torch.softmax(targets.rows_of(exact) / 2, dim=1)
            read = torch.as_tensor(targets.rows).exp()
            assert (read - wanted).abs().max() < (0.3 if name == "cells" else 0.01)
            assert name != "cells" or torch.equal(read.argmax(dim=1), wanted.argmax(dim=1))
        assert reader(dumped, "nothing").manifest.positions == (8, 8)
    fidelity = reader(dumped, "drawn").manifest.fidelity
    assert fidelity is not None
    assert fidelity["num_labels"] == 40
    assert fidelity["top1_agreement"] > 0.8
    assert fidelity["kl_nats"]["1"]["max"] < 1e-3


def test_the_teacher_is_asked_again(copied: Path) -> None:
    run_verify(copied)
    found = json.loads((copied / "reports/verify_labels.json").read_text())["stores"]
    assert {name: each.get("faults") for name, each in found.items()} == {name: [] for name in ROWS}
    assert found["cells"]["recomputed"]["num_labels"] > 8
    store = reader(copied, "drawn")
    labels = store.read_view(0)
    labels["draw"][3] = 5  # the labels of other positions
    store.replace_block(
        store.manifest.blocks()[0], {n: each[:8] for n, each in labels.items()}, store.fidelity_parts[0]
    )
    with pytest.raises(VerificationError, match=r"a label is .* nats from the teacher"):
        run_verify(copied)


def test_a_store_grows_and_is_repaired_to_the_same_bytes(copied: Path) -> None:
    before = {name: reader(copied, name) for name in ("whole", "drawn", "cells")}
    labels = {name: store.read_view(1) for name, store in before.items()}
    path = copied / "data/dump_labels/drawn.zarr"
    flip(shards(path, "log_prob_codes")[2])
    teacher = Teacher.read(copied / "data/train_teacher", torch.device("cpu"), 64)
    broken, split = broken_blocks(path), ImageDataset(copied / "data/prepare").stream("train")
    fingerprint = model_fingerprint(copied / "data/train_teacher")
    repaired = list(repair_store(StoreReader(path), broken, teacher, split, fingerprint))
    assert [(block.name, same) for block, same in repaired] == [("view 0, samples 16 to 19", True)]
    edit_params(copied, "dump_labels", num_views=3)
    run_dump(copied)
    for name, held in labels.items():
        grown = reader(copied, name)
        assert grown.manifest.num_views == 3
        assert all(torch.equal(values, grown.read_view(1)[field]) for field, values in held.items())


def test_stores_are_cut_merged_packed_and_averaged(dumped: Path, tmp_path: Path) -> None:
    for name in ("cells", "drawn"):
        store = reader(dumped, name)
        for view in range(2):
            Subset(store, views=[view]).make(to(tmp_path / f"{name}{view}.zarr"))
        parts = [StoreReader(tmp_path / f"{name}{view}.zarr") for view in range(2)]
        Merge(parts).make(to(tmp_path / f"{name}.zarr"))
        both = StoreReader(tmp_path / f"{name}.zarr")
        assert both.manifest.positions == (8, 8)
        assert all(torch.equal(values, store.read_view(1)[field]) for field, values in both.read_view(1).items())
    drawn = reader(dumped, "drawn")
    pack_store(drawn, "a card", tmp_path / "drawn.zip")
    packed = StoreReader(tmp_path / "drawn.zip")
    assert torch.equal(packed.decode(packed.read_view(1), 1.0), drawn.decode(drawn.read_view(1), 1.0))
    Average([drawn, drawn], [1.0, 3.0], drawn.encoding, 10).make(to(tmp_path / "mean.zarr"))
    mean = StoreReader(tmp_path / "mean.zarr")
    assert torch.equal(mean.read_view(0)["draw"], drawn.read_view(0)["draw"])
    ours, theirs = (store.decode(store.read_view(0), 1.0).exp() for store in (mean, drawn))
    assert (ours - theirs).abs().max() < 0.02


def refused(call: Callable[[], object]) -> str:
    with pytest.raises((ConfigError, DataError, StoreError)) as caught:
        call()
    assert len(str(caught.value)) <= 500
    return str(caught.value)


def test_what_does_not_fit_is_one_line(dumped: Path, copied: Path, tmp_path: Path) -> None:
    drawn, cells, whole = (reader(dumped, name) for name in ("drawn", "cells", "whole"))
    other = build_encoding(ROWS["cells"], "e")
    assert "labels at positions {'stride': 4}; expected {'count': 10" in refused(
        lambda: Average([drawn, cells], [1.0, 1.0], other, 9).make(to(tmp_path / "a.zarr"))
    )
    assert "--encoding: positions {'stride': 4}; expected those of the stores" in refused(
        lambda: Average([drawn, drawn], [1.0, 1.0], other, 9).make(to(tmp_path / "b.zarr"))
    )
    assert "labels are of 8 x 8 positions, and these images of 16 x 16" in refused(
        lambda: match_rows(make_maps(4, size=16), whole)
    )
    flat = make_maps(20)
    flat = type(flat)(flat.inputs, torch.zeros(20, dtype=torch.int64), flat.sample_ids)
    assert "of the signal grid, and these samples have one label each" in refused(lambda: match_rows(flat, whole))
    assert "expected labels of whole samples" in refused(lambda: labels_of_store(str(whole.path)))
    assert "has a row for each image" in refused(lambda: check_layout(None, "grid"))
    for row, said in {"auto": "a row that the dump chooses", "vector_float16": "embeddings"}.items():
        rows = {"a": build_row({"kind": row} | ({"bytes": 3} if row == "auto" else {}), "e")}
        told = str(unfit_encodings(rows, whole.manifest.space, "e")["a"])
        assert f"e.a.kind: {row!r}, {said}, beside labels at positions; expected one with `positions`" in told
    edit_params(copied, "encodings", whole={"kind": "auto", "bytes": 3})
    edit_params(copied, "students", a={"labels": "whole"})
    assert "encodings.whole.kind: 'auto'" in refused(lambda: run_dump(copied))


def test_what_is_in_memory_at_once_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once, "_BYTES", 256 << 20)
    assert samples_at_once(LabelSpace(10, 1.0, (1.0,)), 10**6) == 10**6
    grid = LabelSpace(21, 1.0, (1.0,), "grid", (512, 512))
    assert (samples_at_once(grid, 4096), samples_of_block(grid, 4096), samples_of_block(grid, 5)) == (12, 8, 5)
    assert samples_at_once(LabelSpace(1000, 1.0, (1.0,), "grid", (4096, 4096)), 9) == 1
    told = lowered_blocks(grid, 4096, 100)
    assert told == "dump_labels: blocks of 8 samples, not 4,096: a block has at most 256 MB of outputs"
    assert lowered_blocks(grid, 4096, 8) is lowered_blocks(grid, 8, 100) is None


def test_a_store_says_which_positions_it_holds(dumped: Path) -> None:
    said = {"whole": "every one", "cells": "cells of 4 x 4", "drawn": "10 of them drawn for each view"}
    for name, held in said.items():
        store = reader(dumped, name)
        assert re.search(
            rf"positions +8 x 8: {held}\n +encoding +(dense_uint8|topk): ", store_text(describe_store(store))
        )
        card = store_card(store, OwnersWords(), None)
        assert "in 3 classes at each pixel" in card
        assert f"| positions | 8 x 8: {held} |" in card
    assert re.search(r"positions +8 x 8\n", store_text(describe_store(reader(dumped, "nothing"))))


def test_a_sample_is_shown_with_its_maps(dumped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, picture = dumped / "data/prepare", tmp_path / "shown.png"
    for name, said in {"whole": "every one", "cells": "cells of 4 x 4", "drawn": "10 of them drawn"}.items():
        path = str(dumped / f"data/dump_labels/{name}.zarr")
        inspect_labels.main(path, "row:2", None, 3, picture, data, as_json=False)
        text = capsys.readouterr().out
        assert f"(row 2), 8 x 8 pixels: {said}" in text
        assert text.count("hard label") == 2
        assert picture.read_bytes()[:4] == b"\x89PNG"
        picture.unlink()
        inspect_labels.main(path, "row:2", None, 3, picture, data, as_json=True)
        facts = json.loads(capsys.readouterr().out.partition("\n}")[0] + "\n}")
        known = ImageDataset(data).stream("train")
        store = reader(dumped, name)
        hard = known.hard_labels[int(store.rows_in(known)[2])]
        counts = torch.bincount(hard[hard >= 0].long(), minlength=3).double()
        assert facts["hard_shares"][0] == pytest.approx((counts / counts.sum()).tolist())
        assert facts["unknown_shares"][0] == pytest.approx((hard < 0).double().mean().item())
        assert sum(facts["teacher_shares"][1]) == pytest.approx(1)
        if name == "whole":
            likeliest = store.decode(store.read_view(0), 1.0)[2].argmax(dim=0).reshape(8, 8)
            assert facts["same_class"][0] == pytest.approx((likeliest == hard)[hard >= 0].double().mean().item())
