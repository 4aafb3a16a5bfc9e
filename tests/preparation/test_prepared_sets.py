"""The stage prepare with sets of independent classes: splits, lists and lines, and the doctor's."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import make_tagged_split
from project import small_params, write_params

import pipeline.core.scratch
from pipeline.core.config import load_section
from pipeline.core.errors import DataError, SourceError
from pipeline.data.dataset import ImageDataset
from pipeline.data.hard_labels import is_labelled
from pipeline.data.input_kinds import INPUT_KINDS, InputKind
from pipeline.data.signal_kinds import SignalKind
from pipeline.data.splits import SplitInMemory
from pipeline.doctor.checkup import Folders, check_up
from pipeline.doctor.findings import Findings
from pipeline.preparation.contradictions import contradicting
from pipeline.preparation.enough import check_counts
from pipeline.preparation.hold_out_sets import rarest_classes
from pipeline.preparation.order import Names, hold_out, row_order
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.label_sets import LabelSet
from stages import prepare

NAMES = ("a", "b", "c", "d")


@dataclass(frozen=True)
class Given(Source):
    """A source of the images that a test has."""

    given: tuple[RawImage, ...]
    names: tuple[str, ...] = NAMES

    kind: ClassVar[str] = "given"

    @property
    def signal(self) -> SignalKind:
        return "binary"

    def class_names(self, raw: Path) -> tuple[str, ...]:
        return self.names

    def count(self, raw: Path) -> int:
        return len(self.given)

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        yield from self.given[start:]


def set_of(entries: list[int]) -> LabelSet | None:
    """Returns what is known by the entries of a sample."""
    yes, no = (frozenset(name for name, one in zip(NAMES, entries, strict=True) if one == each) for each in (1, 0))
    return LabelSet(yes, None if -1 not in entries else no) if yes or no else None


def images_of(split: SplitInMemory, name: str = "train") -> list[RawImage]:
    return [
        RawImage(name, set_of(entries), f"{name}/{row:03}", split.inputs[row].numpy())
        for row, entries in enumerate(split.hard_labels.tolist())
    ]


class Project:
    """A folder in which the stage runs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch

    def run(self, source: Source | list[RawImage], **settings: Any) -> ImageDataset:
        one = source if isinstance(source, Source) else Given(tuple(source))
        self._monkeypatch.setattr(prepare, "build_source", lambda row, where: one)
        self._monkeypatch.setattr(pipeline.core.scratch, "code_fingerprint", lambda script: "code")
        section = small_params()["prepare"] | {"source": {"kind": "given"}, **settings}
        write_params(self.folder, {"prepare": section})
        prepare.main(self.folder / "params.yaml", self.folder / "raw", self.folder / "data", self.folder / "work")
        return ImageDataset(self.folder / "data")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch)


def test_entries_come_through_in_the_order_of_rows_wherever_images_stood(project: Project) -> None:
    given = make_tagged_split(60, unknown=0.2)
    images = [*images_of(given), *images_of(make_tagged_split(12, seed=1), "test")]
    dataset = project.run(images[::-1])
    for name, expected in (("train", given), ("val", given), ("test", make_tagged_split(12, seed=1))):
        split = dataset.split(name)
        rows = expected.index.find(split.sample_ids)
        np.testing.assert_array_equal(split.hard_labels, expected.hard_labels[rows])
    assert dataset.manifest.num_samples == {"train": 54, "val": 6, "test": 12}
    assert (dataset.manifest.signal, dataset.manifest.num_unlabelled) == (
        "binary",
        int((~is_labelled(given.hard_labels)).sum()),
    )


def test_lists_have_the_names_and_the_summary_their_number(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    images = images_of(make_tagged_split(40))
    images[0] = replace(images[0], label=LabelSet(frozenset("ac")))
    images[1] = replace(images[1], label=LabelSet(frozenset()))
    images[2] = replace(images[2], label=LabelSet(frozenset("d"), frozenset("b")))
    images[3:23] = [replace(image, label=None) for image in images[3:23]]
    dataset = project.run(images, test_fraction=0.2)
    rows = [line.split("\t") for line in (dataset.folder / "samples.tsv").read_text().splitlines()[1:]]
    names = {key: name for _, _, name, key in rows}
    assert [names[f"train/00{row}"] for row in range(4)] == ["a|c", "", "d", "NA"]
    labels = [dataset.split(name).hard_labels.numpy() for name in ("train", "val", "test")]
    mean = sum((each == 1).sum() for each in labels) / 20
    told = capsys.readouterr().err
    assert f"given, multi-label, 4 classes, {mean:.1f} an image, images 1 x 12 x 12, " in told
    assert "(20 of them unlabelled)" in told
    assert f"labels: multi-label, an image is of any number of classes; {mean:.1f} an image" in told


def test_a_blank_test_image_is_refused_and_one_with_an_entry_is_not(project: Project) -> None:
    images = [*images_of(make_tagged_split(40)), *images_of(make_tagged_split(4, seed=1), "test")]
    images[-1] = replace(images[-1], label=LabelSet(frozenset(), frozenset("a")))
    assert project.run(images).manifest.num_samples["test"] == 4
    images[-1] = replace(images[-1], label=None)
    with pytest.raises(DataError, match="test/003: unlabelled, in the split test"):
        project.run(images, seed=1)


def test_a_class_that_was_not_announced_is_refused(project: Project) -> None:
    images = images_of(make_tagged_split(8))
    images[5] = replace(images[5], label=LabelSet(frozenset("a"), frozenset("e")))
    with pytest.raises(SourceError, match="train/005: class 'e'; expected one of: a, b, c, d"):
        project.run(images)


def test_a_class_that_nobody_has_is_told_for_each_split(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    images = images_of(make_tagged_split(40))
    for row, image in enumerate(images):
        images[row] = replace(image, label=LabelSet(frozenset("a" if row else "ab")))
    project.run(images, test_fraction=0.2)
    told = capsys.readouterr().err
    assert "prepare: no training images of 2 classes, the first: 'c'" in told
    assert "prepare: no val images of 3 classes, the first: 'b'" in told


# Held out: rare classes stand on both sides.


@pytest.mark.parametrize("seed", range(3))
def test_the_held_out_share_is_that_of_all_and_of_each_rarest_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    entries = (rng.random((2000, 6)) < [0.5, 0.3, 0.1, 0.02, 0.004, 0.0]).astype(np.int8)
    entries[:100] = -1
    ids = rng.permutation(2000).astype(np.uint64) + np.uint64(1)
    out = hold_out("val", entries, ids, 0.1, seed, Names("abcdef", "images"))
    assert out.sum() == 190
    assert not out[:100].any()
    rarest = rarest_classes(entries)
    for stratum, count in zip(*np.unique(rarest[100:], return_counts=True), strict=True):
        assert abs((out & (rarest == stratum)).sum() - count / 10) <= 1
    assert ((entries == 1)[~out].any(0) == (entries == 1).any(0)).all()
    order = rng.permutation(2000)
    np.testing.assert_array_equal(
        hold_out("val", entries[order], ids[order], 0.1, seed, Names("abcdef", "images")), out[order]
    )


def test_a_single_image_of_a_class_is_trained_on_and_equal_images_stay_together() -> None:
    entries = np.zeros((40, 2), np.int8)
    entries[7, 1] = 1
    ids = np.arange(1, 41, dtype=np.uint64)
    ids[20:30] = 20
    for seed in range(20):
        out = hold_out("val", entries, ids, 0.9, seed, Names("ab", "images"))
        assert not out[7]
        assert out[19:30].all() or not out[19:30].any()


def test_too_few_images_to_hold_out_are_one_line() -> None:
    entries = np.ones((3, 1), np.int8)
    with pytest.raises(DataError, match=r"none of 3 can be held out by prepare\.val_fraction, 0\.1"):
        hold_out("val", entries, np.arange(1, 4, dtype=np.uint64), 0.1, 0, Names("a", "images"))


@pytest.mark.parametrize("kind", INPUT_KINDS.values(), ids=INPUT_KINDS)
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.ones((3, 1), np.int8), "the training {0}: none of 3 can be held out .*add {0}"),
        (np.zeros(3, np.int64), "class a: 3 training {0}, of which .*add {0}"),
        (np.array([0] * 10 + [-1] * 10), "class a: each of its {0} is also there .*add {0}"),
        (np.zeros(10, np.int64), "class a: all its {0} are equal.*add {0}"),
    ],
)
def test_what_can_not_be_held_out_is_called_what_it_is(kind: InputKind, labels: np.ndarray, expected: str) -> None:
    ids = np.ones(len(labels), np.uint64) if len(labels) > 3 else np.arange(1, 4, dtype=np.uint64)
    with pytest.raises(DataError, match=expected.format(kind.things)):
        hold_out("val", labels, ids, 0.1, 0, Names("a", kind.things))


@dataclass(frozen=True)
class Counted(Given):
    """A source whose labels have been read."""

    num_unlabelled: int = 0

    def counts(self, raw: Path) -> dict[tuple[str, str | None], int]:
        return {("train", "a"): 30, ("train", "b"): 1, ("train", None): self.num_unlabelled}

    def split_sizes(self, raw: Path) -> dict[str, int]:
        return {"train": 40}


def test_classes_may_be_rare_but_labelled_images_must_be_enough_before_any_is_decoded(tmp_path: Path) -> None:
    write_params(tmp_path, {"prepare": small_params()["prepare"]})
    settings = load_section(Prepare, "prepare", tmp_path / "params.yaml")
    check_counts(Counted(()), tmp_path, settings)
    line = r"source 'given': 4 labelled training images are too few for prepare\.test_fraction, 0\.1 and prepare\.val"
    with pytest.raises(DataError, match=line):
        check_counts(Counted((), num_unlabelled=36), tmp_path, settings)


# Equal pictures.

PAIRS = [
    ([1, 0], [1, 0], False),
    ([1, 0], [0, 1], True),
    ([1, 0], [1, 1], True),
    ([1, 0], [1, -1], False),
    ([1, -1], [-1, 1], False),
    ([1, 0], [-1, -1], False),
]


@pytest.mark.parametrize(("one", "other", "expected"), PAIRS)
def test_sets_contradict_each_other_where_one_has_what_the_other_has_not(
    one: list[int], other: list[int], expected: bool
) -> None:
    entries = np.array([[0, 1], one, [0, 0], other, [1, 1]], np.int8)
    found = contradicting(np.array([9, 5, 7, 5, 8], np.uint64), entries)
    assert found.tolist() == [False, expected, False, expected, False]


def test_contradicting_sets_are_listed_dropped_or_refused(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    images = images_of(make_tagged_split(40))
    images[4] = replace(images[3], key="again", label=LabelSet(frozenset("ab")))
    images[3] = replace(images[3], label=LabelSet(frozenset("b")))
    settings = {"test_fraction": 0.2}
    project.run(images, **settings)
    lines = (project.folder / "data/contradictions.tsv").read_text().splitlines()
    assert [line.split("\t")[1:] for line in lines] == [["class", "key"], ["a|b", "again"], ["b", "train/003"]]
    assert "2 images (1 distinct) have contradicting labels and were kept" in capsys.readouterr().err
    assert sum(project.run(images, contradicting="drop", **settings).manifest.num_samples.values()) == 38
    with pytest.raises(DataError, match=r"again: class 'a\|b', and train/003 is equal to it, in 'b'"):
        project.run(images, contradicting="refuse", **settings)


def test_the_order_of_equal_pictures_is_that_of_their_sets_and_not_of_their_files() -> None:
    ids = np.array([3, 3, 3, 8], np.uint64)
    entries = np.array([[1, 0], [0, 1], [0, 0], [1, 1]], np.int8)
    files = np.array([1, 2, 3, 4], np.uint64)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        rows = np.array(order)
        found = entries[rows][row_order(ids[rows], entries[rows], files[::-1].copy())]
        assert [row for row in found.tolist() if row != [1, 1]] == [[0, 0], [0, 1], [1, 0]]


# The doctor.


def test_the_doctor_prints_the_lines_of_the_stage_and_counts_images_once(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = {"part": ["train"] * 40 + ["test"] * 10}
    folder = project.folder / "images"
    folder.mkdir()
    split = make_tagged_split(50)
    names = []
    for row, pixels in enumerate(split.inputs.numpy()):
        (folder / f"{row}.pgm").write_bytes(b"P5 12 12 255\n" + pixels.tobytes())
        names.append("|".join(name for name, one in zip(NAMES, split.hard_labels[row].tolist(), strict=True) if one))
    lines = [f"{row}.pgm,{name},{part}" for row, (name, part) in enumerate(zip(names, tables["part"], strict=True))]
    (folder / "t.csv").write_text("\n".join(["path,label,part", *lines]))
    row = {"kind": "manifest", "path": str(folder / "t.csv"), "separator": "|", "split_column": "part"}
    params = small_params()
    params["prepare"] |= {"source": row, "val_fraction": 0.2}

    def ask() -> list[str]:
        write_params(project.folder, params)
        places = (project.folder / name for name in ("raw", "data", "teacher", "labels", "work"))
        capsys.readouterr()
        check_up(project.folder / "params.yaml", Folders(*places), Findings(), quick=True)
        return [line[9:] for line in capsys.readouterr().out.splitlines()]

    told = ask()
    assert any("4 independent classes, about 32 train, about 8 val, about 10 test" in line for line in told), told
    write_params(project.folder, {"prepare": params["prepare"]})
    prepare.main(project.folder / "params.yaml", *(project.folder / name for name in ("raw", "data", "work")))
    said = [line.removeprefix("prepare: ") for line in capsys.readouterr().err.splitlines()]
    mean = (split.hard_labels == 1).sum().item() / 50
    assert f"labels: multi-label, an image is of any number of classes; {mean:.1f} an image" in said
    assert set(said[:6]) <= set(told)
    after = ask()
    assert any("4 independent classes, 32 train, 8 val, 10 test" in line for line in after), after
    assert f"labels: multi-label, an image is of any number of classes; {mean:.1f} an image" in after
    positive = int((split.hard_labels[40:, 0] == 1).sum())
    assert any(line.startswith("class 0 'a': ") and line.endswith(f", {positive} test") for line in after)
