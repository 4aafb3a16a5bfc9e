"""A sample of a store of independent classes, as a person sees it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tagged import NAMES, linked_copy

from pipeline.data.dataset import ImageDataset
from pipeline.labelling.card import OwnersWords, store_card
from pipeline.labelling.inspect import describe_store, store_text
from pipeline.labelling.inspect_sample import InspectedSample
from pipeline.labels.reader import StoreReader
from stages import verify_labels


@pytest.fixture
def store(tagged_project: Path) -> StoreReader:
    return StoreReader(tagged_project / "data/dump_labels/odds.zarr")


def sample_with(tagged_project: Path, count: int, unknown: int) -> tuple[str, torch.Tensor]:
    """Returns the id and the entries of a training sample with so many classes, and unknown
    ones.
    """
    split = ImageDataset(tagged_project / "data/prepare").split("train")
    fits = ((split.hard_labels == 1).sum(1) == count) & ((split.hard_labels == -1).sum(1) == unknown)
    row = int(fits.nonzero()[0, 0])
    return f"{int(split.sample_ids[row]):016x}", split.hard_labels[row]


@pytest.mark.parametrize(("count", "unknown"), [(2, 0), (0, 0), (2, 1)])
def test_a_sample_shows_its_set_and_a_probability_for_each_class(
    tagged_project: Path, store: StoreReader, count: int, unknown: int
) -> None:
    asked, entries = sample_with(tagged_project, count, unknown)
    found = InspectedSample.read(store, asked, 1.0, tagged_project / "data/prepare")
    labels = [store.read_view(view, range(found.row, found.row + 1)) for view in range(2)]
    expected = torch.cat([store.decode(label, 1.0) for label in labels]).sigmoid().numpy()
    np.testing.assert_allclose(found.probabilities, expected)
    yes = [NAMES[n] for n in (entries == 1).nonzero()[:, 0].tolist()]
    assert found.facts()["hard_label_name"] == yes
    assert found.facts()["unknown"] == (entries == -1).nonzero()[:, 0].tolist()
    title, table = found.text(4).split(";", 1)
    assert title.endswith(f"hard label: {', '.join(yes) or 'none of the classes'}") or unknown
    assert "all others" not in table
    assert table.count(" *") == len(yes)
    assert (" ?" in table) == bool(unknown)
    assert len(re.findall(r"\d+\.\d\d%", table)) == 2 * len(NAMES)


def test_the_teacher_is_asked_again(tagged_project: Path, tmp_path: Path) -> None:
    folder, report = linked_copy(tagged_project, tmp_path / "project"), tmp_path / "verify.json"
    at = folder / "data"
    verify_labels.main(folder / "params.yaml", at / "prepare", at / "train_teacher", at / "dump_labels", report, True)
    found = json.loads(report.read_text())
    assert {name: each["faults"] for name, each in found["stores"].items()} == {name: [] for name in found["stores"]}
    assert found["stores"]["odds"]["recomputed"]["top1_agreement"] == 1


def test_a_store_and_its_card_name_independent_classes(tagged_project: Path, store: StoreReader) -> None:
    facts = describe_store(store)
    text = store_text(facts)
    assert facts["signal"] == "binary"
    assert f"4 independent ones: {NAMES[0]}" in text
    assert "same set of classes: 100.000%" in text
    shown = store_card(store, OwnersWords(), tagged_project / "data/prepare")
    assert "in 4 independent classes" in shown
    assert "same set of classes: 100.000%" in shown
    assert store.manifest.teacher is not None
    headline = f"validation mean average precision {store.manifest.teacher['val_map']:.2%}"
    assert headline in text
    assert headline in shown
    assert "accuracy" not in text + shown
