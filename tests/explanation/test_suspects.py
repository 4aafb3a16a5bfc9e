"""Suspects: planted wrong labels are found from stored labels alone; the figures are those of
confident learning.
"""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_split
from stores import FLOAT16, LABELLED, NONE, TOPK, Row, begin, logits_of, make, take

from pipeline.data.hard_labels import UNLABELLED
from pipeline.data.splits import SplitInMemory
from pipeline.explanation.opinions import Opinion, choose_store, read_probs, stored_opinions
from pipeline.explanation.suspects import Suspicions, judge
from pipeline.labels.reader import StoreReader
from pipeline.views.operations.mixup import Mixup
from pipeline.views.spec import ViewSpec, own_shares

WHOLE = make_split(120, classes=6)
WRONG = np.array([3, 17, 40, 41, 77, 100])
PLAIN_FIRST = ViewSpec(seed=5, plain_first=True, operations=(Mixup(probability=1.0, alpha=1.0),))


def flipped(split: SplitInMemory = WHOLE, rows: np.ndarray = WRONG) -> SplitInMemory:
    """Returns the split with the labels of some rows wrong."""
    labels = split.hard_labels.clone()
    labels[rows] = (labels[rows] + 1 + torch.arange(len(rows)) % 5) % 6
    return replace(split, hard_labels=labels)


def knowing_store(path: Path, row: Row, split: SplitInMemory = WHOLE) -> StoreReader:
    """Writes a store by a teacher that knows the right labels and is sure of them."""
    writer = begin(path, row, split, range(3), block_samples=32)
    for block in writer.manifest.blocks():
        right = torch.nn.functional.one_hot(split.hard_labels[block.rows.start : block.rows.stop], 6)
        ids = split.sample_ids[block.rows.start : block.rows.stop]
        logits = 9 * right + 0.3 * logits_of(ids, block.view)
        if not writer.anchors.has(block.rows):
            writer.write_anchors(block.rows, torch.log_softmax(logits, dim=1))
        writer.write(block, logits)
    writer.finish()
    return StoreReader(path)


def suspects_of(store: StoreReader, split: SplitInMemory) -> tuple[Suspicions, Suspicions]:
    """Returns the suspects, and the suspicions about all samples."""
    everything, count = judge(stored_opinions(store, split), split.hard_labels.numpy(), 6)
    return everything.worst(count), everything


@pytest.mark.parametrize("encoding", LABELLED)
def test_planted_wrong_labels_are_found_and_nothing_else(tmp_path: Path, encoding: str) -> None:
    suspects, everything = suspects_of(knowing_store(tmp_path / "x.zarr", LABELLED[encoding]), flipped())
    assert sorted(suspects.places) == WRONG.tolist()
    assert len(everything) == len(WHOLE)
    assert torch.equal(torch.from_numpy(suspects.teacher_says), WHOLE.hard_labels[suspects.places])
    assert (np.diff(suspects.suspicion) <= 0).all()
    assert suspects.suspicion.min() > 0.9


def test_a_sample_without_a_hard_label_is_never_a_suspect(tmp_path: Path) -> None:
    split = flipped()
    split.hard_labels[WRONG[::2]] = UNLABELLED
    split.hard_labels[5:15] = UNLABELLED
    suspects, everything = suspects_of(knowing_store(tmp_path / "x.zarr", FLOAT16), split)
    assert sorted(suspects.places) == WRONG[1::2].tolist()
    assert set(everything.places) == set(np.flatnonzero(split.hard_labels.numpy() != UNLABELLED))
    split.hard_labels[:] = UNLABELLED
    assert [len(each) for each in suspects_of(knowing_store(tmp_path / "y.zarr", FLOAT16), split)] == [0, 0]


def test_the_order_of_rows_in_store_and_split_does_not_matter(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(len(WHOLE))
    found = []
    for name, in_store, split in (
        ("a", WHOLE, flipped()),
        ("b", take(order, WHOLE), take(order[::-1].copy(), flipped())),
    ):
        suspects, _ = suspects_of(knowing_store(tmp_path / f"{name}.zarr", FLOAT16, in_store), split)
        found.append((split.sample_ids[suspects.places].tolist(), suspects.suspicion))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-6)


def test_samples_that_a_store_lacks_are_not_checked(tmp_path: Path) -> None:
    store = knowing_store(tmp_path / "x.zarr", FLOAT16, take(range(20, 60), WHOLE))
    _, everything = suspects_of(store, flipped())
    assert sorted(everything.places) == list(range(20, 60))
    assert sorted(everything.worst(2).places) == [40, 41]


def test_of_equal_images_with_two_labels_the_wrong_one_is_a_suspect(tmp_path: Path) -> None:
    split = take([*range(120), 7], WHOLE)
    store = knowing_store(tmp_path / "x.zarr", FLOAT16, split)
    split.hard_labels[120] = (split.hard_labels[7] + 1) % 6
    suspects, _ = suspects_of(store, split)
    assert suspects.places.tolist() == [120]


def plain_twin(probs: np.ndarray, labels: np.ndarray) -> tuple[int, list[int], list[float]]:
    """Returns the number of suspects, their places and suspicions, computed sample by sample."""
    samples, classes = probs.shape
    thresholds = {}
    for j in range(classes):
        own = [probs[s, j] for s in range(samples) if labels[s] == j]
        if own:
            thresholds[j] = sum(own) / len(own)
    joint = np.zeros((classes, classes), dtype=int)
    odds = []
    for s in range(samples):
        able = [j for j in thresholds if probs[s, j] >= thresholds[j]]
        if able:
            joint[labels[s], max(able, key=lambda j: probs[s, j])] += 1
        other = max(probs[s, j] for j in range(classes) if j != labels[s])
        odds.append(other / (other + probs[s, labels[s]]))
    count = int(joint.sum() - np.diag(joint).sum())
    worst = [s for s in sorted(range(samples), key=lambda s: (-odds[s], s)) if odds[s] > 0.5][:count]
    return count, worst, [odds[s] for s in worst]


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_those_of_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 9))
    probs = rng.dirichlet(np.full(classes, 0.4), size=200)
    labels = rng.integers(0, max(2, classes - 1), size=200)  # of many classes, the last has no sample
    cuts = [0, *sorted(rng.integers(0, 200, 3)), 200]
    places = np.arange(200)
    parts = [Opinion(places[a:b], probs[a:b]) for a, b in pairwise(cuts)]
    everything, found = judge(lambda: parts, labels, classes)
    count, worst, odds = plain_twin(probs, labels)
    assert found == count
    suspects = everything.worst(found)
    assert suspects.places.tolist() == worst
    np.testing.assert_allclose(suspects.suspicion, odds, rtol=1e-12)


def test_opinions_are_the_mean_of_the_views_probabilities(tmp_path: Path) -> None:
    store = make(tmp_path / "x.zarr", FLOAT16, WHOLE, range(3), block_samples=32)
    views = [logits_of(WHOLE.sample_ids, view).double().softmax(dim=1).numpy() for view in range(3)]
    probs = np.concatenate([part.probs for part in stored_opinions(store, WHOLE)()])
    np.testing.assert_allclose(probs, np.mean(views, axis=0), rtol=5e-3)
    rows = np.array([90, 3, 3, 119])
    np.testing.assert_allclose(read_probs(store, rows, 1).numpy(), views[1][rows], rtol=1e-2)


def test_labels_are_read_by_whole_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(tmp_path / "x.zarr", TOPK, WHOLE, range(2))
    asked: list[range] = []
    read = StoreReader.read_view
    monkeypatch.setattr(StoreReader, "read_view", lambda self, view, rows: asked.append(rows) or read(self, view, rows))
    judge(stored_opinions(store, take(range(119, 50, -1), WHOLE)), WHOLE.hard_labels.numpy(), 6)
    read_probs(store, np.array([9, 15, 70]), 0)
    assert {(rows.start % 8, len(rows)) for rows in asked} == {(0, 8)}


def mixed(path: Path, spec: ViewSpec) -> StoreReader:
    return make(path, FLOAT16, WHOLE, range(3), views=spec.to_dict(), block_samples=32)


def test_views_of_two_images_say_nothing(tmp_path: Path) -> None:
    always = replace(PLAIN_FIRST, plain_first=False)
    assert not len(suspects_of(mixed(tmp_path / "always.zarr", always), WHOLE)[1])
    parts = list(stored_opinions(mixed(tmp_path / "first.zarr", PLAIN_FIRST), WHOLE)())
    plain = logits_of(WHOLE.sample_ids, 0).double().softmax(dim=1).numpy()
    np.testing.assert_allclose(np.concatenate([part.probs for part in parts]), plain, rtol=5e-3)


def test_a_view_that_happens_to_show_one_image_counts(tmp_path: Path) -> None:
    sometimes = replace(PLAIN_FIRST, plain_first=False, operations=(Mixup(probability=0.5, alpha=1.0),))
    parts = list(stored_opinions(mixed(tmp_path / "x.zarr", sometimes), WHOLE)())
    total, count = np.zeros((120, 6)), np.zeros(120)
    for view in range(3):
        whole = own_shares(sometimes.draw(WHOLE.sample_ids, view), (1, 12, 12), sometimes).numpy() == 1
        total[whole] += logits_of(WHOLE.sample_ids, view).double().softmax(dim=1).numpy()[whole]
        count += whole
    assert 0 < (count == 0).sum() < 60
    places = np.concatenate([part.places for part in parts])
    assert places.tolist() == np.flatnonzero(count).tolist()
    expected = total[places] / count[places, None]
    np.testing.assert_allclose(np.concatenate([part.probs for part in parts]), expected, rtol=5e-3)


def test_the_store_closest_to_the_teacher_is_chosen(tmp_path: Path) -> None:
    assert choose_store(tmp_path) is None
    make(tmp_path / "none.zarr", NONE)
    assert choose_store(tmp_path) is None
    make(tmp_path / "a_warm.zarr", LABELLED["sampled"], temperature=2.0)  # serves no other temperature
    assert choose_store(tmp_path) is None
    for name, row in (("topk", TOPK), ("x_exact", FLOAT16), ("z_drawn", LABELLED["sampled"])):
        make(tmp_path / f"{name}.zarr", row)
    chosen = choose_store(tmp_path)
    assert chosen is not None
    assert chosen.path.name == "x_exact.zarr"
