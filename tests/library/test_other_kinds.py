"""The library and samples that are no images: prepared ones are joined with their labels, and what
takes images alone says so.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import KINDS, write_kind
from project import edit_sealed
from stores import CLASSES, FLOAT16, make

import potstill
from pipeline.core.errors import DataError, StoreError
from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import INPUT_KINDS, InputKindName

PLAIN = {"seed": 1, "plain_first": False, "operations": []}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> InputKindName:
    found: InputKindName = request.param
    return found


@pytest.fixture
def data(kind: InputKindName, tmp_path: Path) -> Path:
    """Returns prepared samples, with as many classes as the made-up teacher knows."""
    folder = write_kind(tmp_path / "data", kind, (24, 6, 6))
    edit_sealed(folder / "manifest.json", lambda told: {**told, "class_names": CLASSES})
    return folder


@pytest.fixture
def labels(kind: InputKindName, data: Path, tmp_path: Path) -> potstill.Labels:
    split = ImageDataset(data).split("train")
    make(tmp_path / "labels.zarr", FLOAT16, split, views=PLAIN, input={"kind": kind, "detail": split.content.detail})
    return potstill.open_labels(tmp_path / "labels.zarr")


def test_prepared_samples_come_with_their_labels(data: Path, labels: potstill.Labels) -> None:
    split, dataset = ImageDataset(data).split("train"), potstill.DistillationDataset(data, labels)
    for number in (0, 7, 23):
        item = dataset[number]
        place = int(split.index.find(np.array([item.sample_id.item()]).view(np.uint64))[0])
        assert (item.view == split.take(np.array([place])).inputs[0]).all()
        np.testing.assert_array_equal(item.targets, labels.targets(split.sample_ids[[place]], 0)[0])


@pytest.mark.parametrize("takes", [potstill.DistillationDataset, potstill.LabelledLoader])
def test_a_data_set_of_images_can_not_have_labels_of_others(
    takes: Any, kind: InputKindName, labels: potstill.Labels
) -> None:
    own = [(np.zeros((8, 8), np.uint8), 0)] * 4
    with pytest.raises(StoreError) as caught:
        iter(takes(own, labels, **({"batch_size": 2} if takes is potstill.LabelledLoader else {})))
    assert str(caught.value).count("\n") == 0
    assert f"its labels are of {INPUT_KINDS[kind].things}; expected of images" in str(caught.value)
    assert "give the folder of the prepared data set" in str(caught.value)


def test_other_samples_than_images_are_refused_in_a_line(data: Path, tmp_path: Path) -> None:
    split = ImageDataset(data).split("train")
    own = [(split.take(np.array([0])).inputs[0], 0)] * 4
    with pytest.raises(DataError) as caught:
        potstill.label_dataset(own, lambda views: views, tmp_path / "out")
    assert str(caught.value).startswith("item 0: ")
    assert "expected uint8" in str(caught.value)
