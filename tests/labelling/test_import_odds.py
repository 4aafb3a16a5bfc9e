"""Imported outputs of independent classes: log-odds, or a probability for each class."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from project import write_params
from tagged import NAMES, linked_copy, tagged_params

from pipeline.core.errors import ConfigError, ModelError, PipelineError
from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader
from stages import import_labels


@pytest.fixture
def folder(tagged_project: Path, tmp_path: Path) -> Path:
    folder = linked_copy(tagged_project, tmp_path / "project")
    for name in ("dump_labels", "train_student"):
        shutil.rmtree(folder / "data" / name)
    shutil.rmtree(folder / "work")
    return folder


def outputs_of(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids of the train and val samples, and log-odds that know their entries."""
    dataset = ImageDataset(folder / "data/prepare")
    splits = [dataset.split(name) for name in ("train", "val")]
    entries = np.concatenate([split.hard_labels.numpy() for split in splits]).astype(np.float32)
    noise = np.random.default_rng(0).normal(size=entries.shape).astype(np.float32)
    return np.concatenate([split.sample_ids for split in splits]), 4 * (2 * entries - 1) + noise


def run(folder: Path, path: Path, params: dict[str, Any] | None = None, **options: Any) -> StoreReader:
    at = folder / "data"
    where = write_params(folder, params or tagged_params())
    out = at / "dump_labels"
    settings = {"ids": None, "probabilities": False, "layout": None} | options
    import_labels.main(path, params=where, data=at / "prepare", out=out, work=folder / "work", **settings)
    return StoreReader(out / "odds.zarr")


@pytest.mark.parametrize("probabilities", [False, True])
def test_log_odds_and_sigmoids_become_the_same_labels(folder: Path, probabilities: bool) -> None:
    ids, log_odds = outputs_of(folder)
    values = 1 / (1 + np.exp(-log_odds)) if probabilities else log_odds
    np.savez(folder / "outputs.npz", logits=values, sample_id=ids)
    store = run(folder, folder / "outputs.npz", probabilities=probabilities)
    split = ImageDataset(folder / "data/prepare").split("train")
    read = store.decode(store.read_view(0), 1.0)[torch.from_numpy(store.find(split.sample_ids))]
    np.testing.assert_allclose(read.numpy(), log_odds[: len(split)], atol=0.13)  # half a step at 16 nats
    assert store.manifest.signal == "binary"
    assert store.manifest.teacher is not None
    assert {"val_accuracy", "val_map"} <= store.manifest.teacher.keys()
    assert store.manifest.class_names == list(NAMES)


@pytest.mark.parametrize(
    ("edit", "error", "told"),
    [
        ("sigmoids", ModelError, r"outputs\.npz: all are within 0 and 1: these are probabilities; say --probabilities"),
        ("other order", ModelError, r"mean average precision \d+\.\d+% .*chance"),
        ("fewer columns", ConfigError, r"3 outputs, and 4 classes in the data"),
        ("one class of two outputs", ConfigError, r"class_map: several outputs for a class, .*independent"),
        ("layout", ConfigError, r"--layout: tinyvit, whose labels are of one class of several"),
    ],
)
def test_outputs_that_do_not_fit_are_one_line(folder: Path, edit: str, error: type[PipelineError], told: str) -> None:
    ids, log_odds = outputs_of(folder)
    params, options = tagged_params(), {"layout": "tinyvit"} if edit == "layout" else {}
    values = {
        "sigmoids": 1 / (1 + np.exp(-log_odds)),
        "other order": -log_odds,
        "fewer columns": log_odds[:, :3],
        "one class of two outputs": np.concatenate([log_odds, log_odds[:, :1]], axis=1),
    }.get(edit, log_odds)
    if edit == "one class of two outputs":
        rest = {name: [number + 1] for number, name in enumerate(NAMES[1:])}
        params["train_teacher"]["class_map"] = {NAMES[0]: [0, 4], **rest}
    np.savez(folder / "outputs.npz", logits=values, sample_id=ids)
    with pytest.raises(error, match=told) as caught:
        run(folder, folder / "outputs.npz", params, **options)
    assert len(str(caught.value)) <= 500
    assert "\n" not in str(caught.value)
    assert not (folder / "data/dump_labels").exists()
