"""A trained network on disk: what is written is what is read, and damage is one clear error."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from damage import flipped
from project import edit_sealed

from pipeline.core.errors import PipelineError
from pipeline.models.saved import ModelMeta, model_fingerprint, read_meta, read_model, write_model

META = ModelMeta(
    model="convnet_small",
    model_settings={"width": 2, "depth": 1},
    class_names=["cat", "dog", "eel"],
    image_shape=[1, 8, 8],
    mean=[0.3],
    std=[0.2],
    settings={"seed": 4, "fit": {"learning_rate": 0.1}},
    precision="float32",
    val={"accuracy": 0.75},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    weights, best = META.build(1).state_dict(), META.build(2).state_dict()
    write_model(tmp_path / "net", META, weights, best=best)
    return tmp_path / "net"


def test_a_network_comes_back_with_its_weights_and_its_description(folder: Path) -> None:
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    meta = read_meta(folder, made_by="train_teacher")
    assert set(meta.files) == {"weights.safetensors", "best.safetensors"}
    assert replace(meta, files={}) == META
    for file, seed in (("weights", 1), ("best", 2)):
        read = read_model(folder, made_by="train_teacher", weights=file)
        assert not read.training
        assert torch.equal(read(images), META.build(seed).eval()(images))


def test_the_fingerprint_tells_weights_apart_and_the_same_weights_are_the_same_file(folder: Path) -> None:
    before, content = model_fingerprint(folder), (folder / "weights.safetensors").read_bytes()
    write_model(folder, META, META.build(1).state_dict())
    assert model_fingerprint(folder) == before
    assert (folder / "weights.safetensors").read_bytes() == content
    write_model(folder, META, META.build(3).state_dict())
    assert model_fingerprint(folder) != before


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _drop_key(path: Path) -> None:
    edit_sealed(path, lambda content: {k: v for k, v in content.items() if k != "mean"})


def _add_key(path: Path) -> None:
    edit_sealed(path, lambda content: content | {"median": 1})


@pytest.mark.parametrize("file", ["weights.safetensors", "meta.json"])
@pytest.mark.parametrize("damage", [Path.unlink, _cut, lambda path: path.write_bytes(b"")])
def test_a_missing_or_damaged_file_is_one_line_that_names_it(
    folder: Path, file: str, damage: Callable[[Path], object]
) -> None:
    damage(folder / file)
    with pytest.raises(PipelineError, match=rf"{file}: .*dvc repro train_teacher") as caught:
        read_model(folder, made_by="train_teacher")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["weights.safetensors", "meta.json"])
def test_a_flipped_bit_is_found_or_means_nothing(folder: Path, file: str) -> None:
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    before, found = read_model(folder, made_by="train_teacher")(images), 0
    for _ in flipped(folder / file, 40):
        try:
            after = read_model(folder, made_by="train_teacher")(images)
        except PipelineError as error:
            assert str(folder / file) in str(error)  # noqa: PT017
            found += 1
        else:  # a blank of the JSON file that became another one
            assert torch.equal(before, after)
    assert found == 40 or (file == "meta.json" and found > 30)


def test_the_weights_of_another_network_in_its_place_are_refused(folder: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "other", META, META.build(3).state_dict())
    (tmp_path / "other/weights.safetensors").replace(folder / "weights.safetensors")
    with pytest.raises(PipelineError, match=r"weights.safetensors: not the file that meta.json was written with"):
        read_model(folder, made_by="train_teacher")


@pytest.mark.parametrize("damage", [_drop_key, _add_key])
def test_a_description_of_something_else_is_refused(folder: Path, damage: Callable[[Path], object]) -> None:
    damage(folder / "meta.json")
    with pytest.raises(PipelineError, match=r"meta.json: not a network's description"):
        read_meta(folder, made_by="train_teacher")


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    edit_sealed(folder / "meta.json", lambda content: content | {"model_settings": {"width": 3, "depth": 1}})
    with pytest.raises(PipelineError, match=r"weights.safetensors: network\.0\.0\.weight is \[2, 1, 3, 3\]"):
        read_model(folder, made_by="train_teacher")
