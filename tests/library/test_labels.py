"""`potstill.open_labels`: what a store states about itself, and its soft targets by sample id."""

import doctest
import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stores import CLASSES, FLOAT16, LABELLED, NONE, SPLIT, TEMPERATURES, Row, flip, logits_of, make, shards

import potstill
from pipeline.core.closure import TOP

IDS = SPLIT.sample_ids


@pytest.fixture
def labels(tmp_path: Path) -> potstill.Labels:
    return potstill.open_labels(make(tmp_path / "dense.zarr", FLOAT16).path)


@pytest.mark.parametrize("name", [path.stem for path in (TOP / "pipeline/library").glob("[!_]*.py")])
def test_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"pipeline.library.{name}")).failed == 0


def test_every_name_is_there_and_documented_and_nothing_is_loaded_before_it_is_used() -> None:
    for name in potstill.__all__:
        assert getattr(potstill, name).__doc__
    assert set(potstill.__all__) < set(dir(potstill))
    assert potstill.__version__.count(".") == 2
    assert not hasattr(potstill, "nothing")
    heavy = "{'torchvision', 'dvc', 'pandas', 'matplotlib', 'typer', 'sklearn', 'PIL'}"
    script = f"import sys, potstill; assert 'torch' not in sys.modules; from potstill import *; assert not {heavy} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=TOP).returncode == 0


def test_a_store_says_what_it_holds(labels: potstill.Labels) -> None:
    assert (labels.class_names, labels.num_samples, len(labels), labels.views) == (CLASSES, 20, 20, [0, 1])
    assert (labels.temperature, labels.temperatures, labels.encoding) == (1.0, TEMPERATURES, FLOAT16)
    assert [operation.kind for operation in labels.view_spec.operations] == ["pad_crop", "flip_horizontal"]
    assert labels.teacher["val_accuracy"] == 0.9
    assert labels.fidelity["num_labels"] == 40
    assert labels.label_bytes > 0
    assert [labels.view_of(epoch) for epoch in range(4)] == [0, 1, 0, 1]
    text = repr(labels)
    for part in ("dense.zarr", "20 in 2 views (numbers 0 to 1)", "6: a, b, c", "dense_float16", "pad_crop then flip"):
        assert part in text


@pytest.mark.parametrize("temperature", [None, 1.0, 4.0])
def test_targets_are_the_teachers_in_any_order_and_by_ids_of_any_kind(
    labels: potstill.Labels, temperature: float | None
) -> None:
    rows = [17, 3, 3, 0]
    expected = torch.log_softmax(logits_of(IDS[rows], 1) / (temperature or 1.0), dim=1)
    kinds = [IDS[rows], torch.from_numpy(IDS[rows].view(np.int64)), IDS[rows].tolist(), list(IDS[rows])]
    for ids in kinds:
        torch.testing.assert_close(labels.targets(ids, 1, temperature), expected, atol=0.01, rtol=0)
    assert labels.targets([], 0).shape == (0, 6)


@pytest.mark.parametrize("row", LABELLED.values(), ids=LABELLED)
def test_targets_of_every_encoding_are_those_that_the_stages_train_on(tmp_path: Path, row: Row) -> None:
    store = make(tmp_path / "store.zarr", row)
    labels = potstill.open_labels(str(store.path))
    rows, index = np.array([9, 2]), torch.tensor([9, 2])
    stored = {name: values[index] for name, values in store.read_view(1).items()}
    assert torch.equal(labels.targets(IDS[rows], 1), store.decode(stored, 1.0))
    expected = store.codec.targets(stored, 1.0)
    if isinstance(expected, torch.Tensor):
        with pytest.raises(potstill.PotstillError, match=r"hold every class; expected sparse=False"):
            labels.targets(IDS[rows], 1, sparse=True)
        return
    sparse = labels.targets(IDS[rows], 1, sparse=True)
    assert isinstance(sparse, potstill.SparseTargets)
    assert torch.equal(sparse.classes, expected.classes)
    assert torch.equal(sparse.to("cpu").log_probs, expected.log_probs)


def test_a_block_is_read_when_it_is_asked_for_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    store = make(tmp_path / "store.zarr", FLOAT16)  # blocks of 8 rows
    flip(
        next(
            file for file in shards(store.path, "log_probs") if file.parts[-3:-1] == ("1", "1") or "c/1/1" in str(file)
        )
    )
    labels = potstill.open_labels(store.path)
    labels.targets(IDS[:8], 1)
    labels.targets(IDS, 0)
    with pytest.raises(potstill.PotstillError, match=r"store\.zarr"):
        labels.targets(IDS[8:9], 1)


Ask = Callable[[potstill.Labels], object]
FAULTS: dict[str, tuple[Ask, str]] = {
    "unknown": (
        lambda labels: labels.targets([5, *IDS], 0),
        r"no labels for 1 of 21 samples \(the first: 0+5\); label the images",
    ),
    "view": (lambda labels: labels.targets(IDS, 7), r"no labels for view 7; expected one of its views, 0 to 1"),
    "floats": (lambda labels: labels.targets(torch.ones(2), 0), "float32 of shape"),
    "square": (lambda labels: labels.targets(torch.ones(2, 2, dtype=torch.int64), 0), r"of shape \[2, 2\]"),
}


@pytest.mark.parametrize(("ask", "message"), FAULTS.values(), ids=FAULTS)
def test_what_is_not_there_is_refused_in_one_line(labels: potstill.Labels, ask: Ask, message: str) -> None:
    with pytest.raises(potstill.PotstillError, match=message) as caught:
        ask(labels)
    assert len(str(caught.value)) < 500
    assert labels.has([5, IDS[0]]).tolist() == [False, True]


def test_what_can_not_be_opened_is_refused_in_one_line(tmp_path: Path) -> None:
    make(tmp_path / "soft.zarr", FLOAT16)
    with pytest.raises(potstill.PotstillError, match=r"is a folder of stores; expected one of them: soft\.zarr"):
        potstill.open_labels(tmp_path)
    with pytest.raises(potstill.PotstillError, match=r"nothing\.zarr: no such folder; give the path of a store"):
        potstill.open_labels(tmp_path / "nothing.zarr")
    damaged = make(tmp_path / "damaged.zarr", FLOAT16).path
    (damaged / "zarr.json").write_text("{")
    with pytest.raises(potstill.PotstillError, match=r"get the store again, or delete it and label the images"):
        potstill.open_labels(damaged)
    none = potstill.open_labels(make(tmp_path / "none.zarr", NONE).path)
    assert "none" in repr(none)
    with pytest.raises(potstill.PotstillError, match="holds views and no soft labels"):
        none.targets(IDS, 0)


def test_labels_open_again_in_another_process(labels: potstill.Labels) -> None:
    again = pickle.loads(pickle.dumps(labels))
    assert torch.equal(again.targets(IDS, 1), labels.targets(IDS, 1))


def test_equal_pixels_have_equal_ids_in_every_form() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 6), np.uint8)
    last = colour.transpose(0, 2, 3, 1)
    forms = [
        colour,
        torch.from_numpy(colour),
        last,
        list(last),
        [Image.fromarray(np.ascontiguousarray(x)) for x in last],
    ]
    for images in forms:
        assert np.array_equal(potstill.sample_ids(images), potstill.sample_ids(colour))
    assert np.array_equal(potstill.sample_ids(SPLIT.inputs), IDS)
    assert np.array_equal(potstill.sample_ids(SPLIT.inputs[:, 0].numpy()), IDS)
    assert potstill.sample_ids([]).shape == (0,)


IMAGES: dict[str, tuple[object, str]] = {
    "floats": (torch.zeros(1, 3, 4, 4), "image 0: float32 of shape"),
    "modes": ([Image.new("L", (2, 2)), Image.new("P", (2, 2))], "image 1: a PIL image of mode P"),
    "ends": (np.zeros((1, 3, 8, 3), np.uint8), "axis of channels is either end"),
    "neither": (np.zeros((1, 8, 8, 8), np.uint8), "axis of channels is neither end"),
    "words": (["a.jpg"], "image 0: a str"),
    "flat": (torch.zeros(2, 5, dtype=torch.uint8), r"uint8 of shape \[5\]"),
}


@pytest.mark.parametrize(("images", "message"), IMAGES.values(), ids=IMAGES)
def test_what_is_no_image_has_no_id(images: object, message: str) -> None:
    with pytest.raises(potstill.PotstillError, match=message):
        potstill.sample_ids(images)  # type: ignore[arg-type]
