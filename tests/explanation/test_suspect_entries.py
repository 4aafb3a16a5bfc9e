"""Suspects among independent classes are entries: planted wrong ones are found, unknown ones never;
the stage `explain` shows them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_tagged_split
from tagged import NAMES, linked_copy

from pipeline.core.tensors import write_tensors
from pipeline.data.dataset import ImageDataset
from pipeline.explanation.opinions import Opinion, choose_store
from pipeline.explanation.samples import Samples, choose
from pipeline.explanation.suspect_entries import entry_answers, judge_entries
from pipeline.explanation.suspects import Judged, judge_classes
from pipeline.models.saved import read_model
from stages import explain

SPLIT = make_tagged_split(90)
WRONG = ((3, 1), (17, 0), (17, 2), (40, 3))


def judged(entries: torch.Tensor, probs: np.ndarray, parts: int = 3) -> Judged:
    places = np.array_split(np.arange(len(probs)), parts)
    return judge_entries(lambda: [Opinion(some, probs[some]) for some in places], entries.numpy(), probs.shape[1])


def knowing_probs() -> np.ndarray:
    """Returns the probabilities of a teacher that knows the right entries, and is surest of those
    that are planted.
    """
    noise = np.random.default_rng(1).normal(size=SPLIT.hard_labels.shape)
    signs = 2.0 * SPLIT.hard_labels.numpy() - 1
    logits = 5 * signs + noise
    logits[tuple(np.transpose(WRONG))] = 9 * signs[tuple(np.transpose(WRONG))]
    probs: np.ndarray = 1 / (1 + np.exp(-logits))
    return probs


def planted() -> torch.Tensor:
    labels = SPLIT.hard_labels.clone()
    for row, column in WRONG:
        labels[row, column] = 1 - labels[row, column]
    return labels


def entries_of(found: Judged) -> set[tuple[int, int]]:
    return set(zip(found.suspects.places.tolist(), (found.suspects.hard_labels // 2).tolist(), strict=True))


def test_planted_wrong_entries_are_found_and_nothing_else() -> None:
    labels = planted()
    found = judged(labels, knowing_probs())
    assert entries_of(found) == set(WRONG)
    assert found.num_checked == labels.numel()
    suspects = found.suspects
    for place, own, says, prob in zip(
        suspects.places, suspects.hard_labels, suspects.teacher_says, suspects.hard_probs, strict=True
    ):
        assert own == 2 * (own // 2) + labels[place, own // 2]
        assert says == 2 * (own // 2) + 1 - labels[place, own // 2]
        exact = knowing_probs()[place, own // 2]
        assert prob == pytest.approx(exact if labels[place, own // 2] else 1 - exact)
    assert (np.diff(suspects.suspicion) <= 0).all()
    assert suspects.suspicion.min() > 0.9


def test_unknown_entries_are_never_suspects() -> None:
    labels = planted()
    labels[17] = -1
    labels[3, 1] = -1
    found = judged(labels, knowing_probs())
    assert entries_of(found) == {(40, 3)}
    assert found.num_checked == int((labels >= 0).sum())
    assert len(judged(torch.full_like(labels, -1), knowing_probs()).suspects) == 0


@pytest.mark.parametrize("column", range(4))
def test_each_class_is_judged_as_two_classes_are(column: int) -> None:
    probs = np.random.default_rng(2).random(SPLIT.hard_labels.shape)
    found, own = judged(SPLIT.hard_labels, probs), SPLIT.hard_labels[:, column].long().numpy()
    alone = judged(SPLIT.hard_labels[:, [column]], probs[:, [column]])
    pair = Opinion(np.arange(len(probs)), np.stack([1 - probs[:, column], probs[:, column]], axis=1))
    two = judge_classes(lambda: [pair], own, 2)
    assert alone.suspects.places.tolist() == two.suspects.places.tolist()
    assert alone.suspects.teacher_says.tolist() == two.suspects.teacher_says.tolist()
    np.testing.assert_allclose(alone.suspects.suspicion, two.suspects.suspicion)
    assert len(two.suspects) > 0
    assert len(found.suspects) > len(two.suspects)


def test_answers_are_named_by_class() -> None:
    assert entry_answers(["cat", "dog"]) == ["not cat", "cat", "not dog", "dog"]


@pytest.fixture(scope="module")
def folder(tagged_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the project after `explain`; `evaluate`'s part of it is made up."""
    folder = linked_copy(tagged_project, tmp_path_factory.mktemp("explain") / "project")
    made_up = {f"{name}.kl_to_teacher": torch.rand(100) for name in ("small", "small_hard")}
    write_tensors(folder / "data/evaluate/predictions.safetensors", made_up | {"teacher.answers": torch.zeros(100, 4)})
    at = folder / "data"
    labels, evaluated, out = at / "dump_labels", at / "evaluate", at / "explain"
    networks = at / "train_teacher", at / "train_student"
    explain.main(folder / "params.yaml", at / "prepare", *networks, labels, evaluated, out, folder / "reports")
    return folder


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "data/explain/samples.json").read_text())
    return content


def test_the_planted_entry_leads_the_list(folder: Path, told: dict[str, Any]) -> None:
    header, first, *_ = (line.split("\t") for line in (folder / "reports/suspects.tsv").read_text().splitlines())
    row = dict(zip(header, first, strict=True))
    was_yes = bool(make_tagged_split(400).hard_labels[0, 1] == 1)
    answers = [NAMES[1], f"not {NAMES[1]}"]
    assert (row["index"], row["key"]) == ("0", "image 0")
    assert [row["teacher_says"], row["hard_label"]] == (answers if was_yes else answers[::-1])
    report = json.loads((folder / "reports/explain.json").read_text())
    assert report["checked"] == "entries of hard labels"
    labels = ImageDataset(folder / "data/prepare").split("train").hard_labels
    assert report["num_checked"] == int((labels >= 0).sum())
    assert {(pair["hard_label"], pair["teacher_says"]) for pair in report["pairs"]} >= {
        (row["hard_label"], row["teacher_says"])
    }


def test_samples_show_each_class_that_is_likely_and_the_entries(folder: Path, told: dict[str, Any]) -> None:
    dataset = ImageDataset(folder / "data/prepare")
    splits = {name: dataset.split(name) for name in ("train", "test")}
    model = read_model(folder / "data/train_teacher", made_by="")
    assert told["samples"][0]["index"] == 0
    assert told["samples"][0]["kinds"] == ["suspect", "attributed"]
    for row in told["samples"]:
        split, at = splits[row["split"]], row["index"]
        entries = split.hard_labels[at]
        assert row["hard_label"] == (entries == 1).nonzero()[:, 0].tolist()
        assert row["unknown"] == (entries == -1).nonzero()[:, 0].tolist()
        with torch.no_grad():
            probs = model(split.inputs[[at]])[0].sigmoid()
        shown = row["says"]["teacher"]
        assert len(shown) == max(3, int((probs > 0.5).sum()))
        assert [share for _, share in shown] == pytest.approx(
            probs.sort(descending=True).values[: len(shown)].tolist(), abs=1e-3
        )
        for labels in row.get("view_labels", []):
            assert all(0 <= share <= 1 for _, share in labels)


def test_the_map_of_a_suspect_is_of_its_class() -> None:
    chosen = choose({0: 1, 7: 2}, [], 3, 9)
    samples = Samples(
        chosen, torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.int8), np.zeros(4, np.uint64)
    )
    assert samples.asked(torch.tensor([3, 3, 3, 3])).tolist() == [1, 2, 3, 3]


def test_unlike_stores_are_passed_over(folder: Path) -> None:
    assert choose_store(folder / "data/dump_labels", "categorical") is None
    found = choose_store(folder / "data/dump_labels", "binary")
    assert found is not None
    assert found.path.name == "odds16.zarr"
