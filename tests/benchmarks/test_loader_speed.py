"""Loaders that are compared: each goes through the images that it is to be measured on."""

import shutil
from pathlib import Path

import pytest

from benchmarks.loader_images import Images, fashion_mnist, from_files
from benchmarks.loader_speed import BATCH, contenders, measure
from benchmarks.prepare_speed import photos
from pipeline.core.closure import TOP


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Returns 200 drawn files, of which 160 are in the training split."""
    folder = tmp_path_factory.mktemp("loaders")
    shutil.copy(TOP / "params.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return from_files(photos(folder / "files", 200, (28, 28)), 28, streamed=True)


def test_every_loader_gives_each_image_once(images: Images) -> None:
    counts = {each.name: each.run() for each in contenders(images, [0])}
    # Of ours an epoch has whole batches only; files are of all splits.
    expected = {"LabelledLoader": BATCH, "DistillationDataset": 160, "TensorDataset": 160, "ImageFolder": 200}
    assert counts == expected | {"ImageFolder with views": 200}


def test_a_loader_is_compared_with_the_others_at_as_many_workers(images: Images) -> None:
    rows = {row["loader"]: row for row in measure(images, rounds=1, workers=[0])}
    assert all(row["images/s"] > 0 for row in rows.values())
    for name in ("TensorDataset", "ImageFolder"):
        assert rows[name][f"times {name}"] == 1
        ratio = rows["LabelledLoader"]["images/s"] / rows[name]["images/s"]
        assert rows["LabelledLoader"][f"times {name}"] == pytest.approx(ratio)


def test_images_of_a_run_are_written_as_files(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/prepare").symlink_to(images.prepared)
    shutil.copy(TOP / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    made = fashion_mnist(tmp_path, most=50)
    assert len(list(made.files.glob("*/*.png"))) == 50
    assert made.store.exists()
