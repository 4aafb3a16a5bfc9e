"""The stage prepare: any source becomes the same data set, whatever is killed goes on, and mistakes
are one line.
"""

import errno
import os
import pickle
import re
import shutil
import signal
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import make_split
from faults import die_at, ended, fork
from image_files import Sample, make_samples, write_folder, write_manifest, write_parquet, write_webdataset
from project import files_of, small_params, write_params

from pipeline.core import arrays, scratch
from pipeline.core.arrays import ArrayGroup
from pipeline.core.errors import DataError, PipelineError, SourceError, StoreError, one_line_errors
from pipeline.core.seeding import derive_seed, philox
from pipeline.data.dataset import ImageDataset
from pipeline.data.decoding import decode, fit, to_png
from pipeline.data.hard_labels import UNLABELLED, rows_fingerprint
from pipeline.data.sample_ids import find_samples, sample_ids
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.data.splits import SplitInMemory
from pipeline.preparation import blocks, buckets, piece
from pipeline.preparation.sources import build_source
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.write import write_dataset
from stages import prepare

CLASSES = ("a", "b", "c", "d")
SHAPE = (3, 10, 12)


@dataclass(frozen=True)
class Given(Source):
    """A source of the images that a test has."""

    given: tuple[RawImage, ...]
    names: tuple[str, ...] = CLASSES
    counted: bool = True
    too_few: int | None = None

    kind: ClassVar[str] = "given"

    def class_names(self, raw: Path) -> tuple[str, ...]:
        return self.names

    def count(self, raw: Path) -> int | None:
        return (self.too_few or len(self.given)) if self.counted else None

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        yield from self.given[start:]


def images_of(split: SplitInMemory, name: str = "train", *, encoded: bool = False) -> list[RawImage]:
    pixels = split.inputs.numpy()
    return [
        RawImage(name, CLASSES[label], f"{name}/{row:03}", to_png(pixels[row]) if encoded else pixels[row])
        for row, label in enumerate(split.hard_labels.tolist())
    ]


def make_source(*, encoded: bool = False, **changes: Any) -> Given:
    """Returns a source of 48 images for training and 16 for the test."""
    train = images_of(make_split(48, shape=SHAPE), encoded=encoded)
    return Given((*train, *images_of(make_split(16, shape=SHAPE, seed=1), "test", encoded=encoded)), **changes)


def without(source: Given, *rows: int) -> Given:
    return replace(source, given=tuple(image for row, image in enumerate(source.given) if row not in rows))


def changed(source: Given, row: int, **changes: Any) -> Given:
    """Returns a source whose image at a place is another."""
    given = list(source.given)
    given[row] = replace(given[row], **changes)
    return replace(source, given=tuple(given))


class Project:
    """A folder in which the stage runs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch
        self.out, self.work = folder / "data/prepare", folder / "work"

    def run(self, source: Source | dict[str, Any], **settings: Any) -> ImageDataset:
        self.folder.mkdir(parents=True, exist_ok=True)
        section = small_params()["prepare"] | {"val_fraction": 0.25, **settings}
        if isinstance(source, dict):
            section["source"] = source
        else:
            self._monkeypatch.setattr(prepare, "build_source", lambda row, where: source)
        self._monkeypatch.setattr(scratch, "code_fingerprint", lambda script: "this code")  # saves a tenth of a second
        write_params(self.folder, {"prepare": section})
        prepare.main(self.folder / "params.yaml", self.folder / "data/raw", self.out, self.work)
        return ImageDataset(self.out)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path / "project", monkeypatch)


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path / "other", monkeypatch)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes some 7 blocks and 16 buckets in the pool, and files of 12 images of pixels."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 10 * 360)
    size_buckets(monkeypatch, 8 * 360)
    monkeypatch.setattr(arrays, "SHARD_BYTES", 10 * 360)
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 4 * 360)
    monkeypatch.setattr("pipeline.data.images.IMAGE_CHUNK_BYTES", 4 * 360)


def size_buckets(monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    for module in (buckets, piece):
        monkeypatch.setattr(module, "BUCKET_BYTES", num_bytes)


def in_rows(ids: np.ndarray) -> np.ndarray:
    """Returns the order in which samples become rows, if no two are equal."""
    return np.argsort([int(word) for word in drawn(ids)], kind="stable")


def drawn(ids: np.ndarray) -> np.ndarray:
    words = ids.view(np.int64)
    return philox(derive_seed(0, "rows"), (words, words >> 32, 0 * words, 0 * words))[0]


def table(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


def all_splits(dataset: ImageDataset) -> dict[str, SplitInMemory]:
    return {name: dataset.split(name) for name in ("train", "val", "test")}


# What comes out.


def test_the_digits_are_the_same_in_every_version(project: Project) -> None:
    dataset = project.run({"kind": "digits"}, val_fraction=0.1)
    manifest = dataset.manifest
    assert (manifest.mean, manifest.std) == ([0.30558728896964193], [0.37541023050722644])
    assert manifest.fingerprints == {
        "train": "e9867b1e293c4dbdd504bf80c0f38a3e",
        "val": "3302ab49b9db682bf5ac436e291b8290",
        "test": "f123f2ba08d3ccbe7236e17ebb2fe28c",
    }
    published = sample_ids(np.stack([image.content for image in build_source({"kind": "digits"}, "").images(Path())]))  # type: ignore[arg-type]
    found = {}
    for name, split in all_splits(dataset).items():
        order = np.argsort(find_samples(split.sample_ids, published), kind="stable")
        found[name] = rows_fingerprint(split.sample_ids[order], split.hard_labels.numpy()[order])
    assert found == {  # in the order in which they were published
        "train": "171dbb600ee442ae13127fa80dd4275d",
        "val": "cb8c711afbe343ceaddd9106790d4feb",
        "test": "adf27a57ae0e621a0b2d4399f157498c",
    }


@pytest.mark.parametrize(("encoded", "storage"), [(False, "pixels"), (True, "encoded")])
def test_rows_are_in_an_order_that_depends_on_content_alone(project: Project, encoded: bool, storage: str) -> None:
    dataset = project.run(make_source(encoded=encoded), storage=storage)
    assert dataset.manifest.num_samples == {"train": 36, "val": 12, "test": 16}
    train, test = make_split(48, shape=SHAPE), make_split(16, shape=SHAPE, seed=1)
    splits = all_splits(dataset)
    for name, whole in (("train", train), ("val", train), ("test", test)):
        order = in_rows(whole.sample_ids)
        rows = order[np.isin(whole.sample_ids[order], splits[name].sample_ids)]
        np.testing.assert_array_equal(splits[name].sample_ids, whole.sample_ids[rows])
        assert torch.equal(splits[name].inputs, whole.inputs[rows])
        assert torch.equal(splits[name].hard_labels, whole.hard_labels[rows])
    assert torch.equal(splits["val"].hard_labels.bincount(), torch.full((4,), 3))


def test_rows_in_a_row_are_of_all_classes_though_the_source_is_sorted_by_class(project: Project) -> None:
    source = Given(tuple(sorted(images_of(make_split(400)), key=lambda image: str(image.label))))
    labels = project.run(source).split("train").hard_labels
    assert all(len(page.unique()) == 4 for page in labels.split(40))
    assert (labels[1:] != labels[:-1]).double().mean().item() == pytest.approx(0.75, abs=0.1)


SAMPLES = [sample for sample in make_samples(each=8) if sample.split != "val"]
REPEATED = [  # one image again: the very same, in another file, of another class, without one, and in another split
    replace(SAMPLES[0], name="again.png"),
    replace(SAMPLES[0], name="in another file.png", content=to_png(decode(SAMPLES[0].content, 3))),
    replace(SAMPLES[0], name="other.png", label="bee"),
    replace(SAMPLES[0], name="none.png", label=None),
    replace(SAMPLES[0], name="leak.png", split="test"),
]


def write_all(place: Path, samples: list[Sample]) -> dict[str, dict[str, Any]]:
    """Writes some images in every layout; returns the rows of settings that name them."""
    write_folder(place / "folder", samples)
    write_parquet(place / "parquet", samples, ["ant", "bee", "cat"])
    write_webdataset(place / "tars", samples[3:] + samples[:3])
    shuffled = [samples[row] for row in np.random.default_rng(0).permutation(len(samples))]
    write_manifest(place / "manifest/table.csv", samples)
    write_manifest(place / "shuffled/table.tsv", shuffled)
    columns = {"image_column": "file", "label_column": "what", "split_column": "part"}
    return {
        "folder": {"kind": "folder", "path": str(place / "folder")},
        "parquet": {"kind": "parquet", "path": str(place / "parquet")},
        "tars": {"kind": "webdataset", "path": str(place / "tars")},
        "manifest": {"kind": "manifest", "path": str(place / "manifest/table.csv"), **columns},
        "shuffled": {"kind": "manifest", "path": str(place / "shuffled/table.tsv"), **columns},
    }


@pytest.mark.parametrize(
    ("storage", "sources"),
    [("pixels", ["folder", "parquet", "tars", "manifest", "shuffled"]), ("encoded", ["tars", "manifest", "shuffled"])],
)
def test_the_same_images_are_the_same_data_set_wherever_they_come_from(
    storage: str, sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 500)
    size_buckets(monkeypatch, 800)
    rows, found = write_all(tmp_path / "raw", SAMPLES + REPEATED), {}
    for name in sources:
        project = Project(tmp_path / name, monkeypatch)
        project.run(rows[name], storage=storage)
        found[name] = files_of(project.out)
    assert found["manifest"] == found["shuffled"]
    for files in found.values():
        arrays = {name: content for name, content in files.items() if ".zarr" in name}
        assert arrays == {name: content for name, content in found["manifest"].items() if ".zarr" in name}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("changes", [{"counted": False}, {"too_few": 1}])  # many buckets; one that is far too large
def test_the_number_of_buckets_does_not_matter(project: Project, other: Project, changes: dict[str, Any]) -> None:
    source = make_source(encoded=True)
    project.run(source, storage="encoded")
    other.run(replace(source, **changes), storage="encoded")
    assert files_of(other.out) == files_of(project.out)


@pytest.mark.usefixtures("small_blocks")
def test_a_data_set_of_many_blocks_and_files_is_the_same_as_one_written_from_memory(project: Project) -> None:
    dataset = project.run(make_source())
    folder = project.folder / "whole"
    write_dataset(folder, "given", CLASSES, all_splits(dataset))
    assert len(list((folder / "train.zarr/images").rglob("c/*/0/0/0"))) == 3
    found = files_of(project.out)
    found.pop("samples.tsv")
    assert found == files_of(folder)


@pytest.mark.usefixtures("small_blocks")
def test_encoded_images_are_read_as_the_same_pixels(project: Project, other: Project) -> None:
    source = make_source(encoded=True)
    encoded, pixels = project.run(source, storage="encoded"), other.run(source)
    same = ("fingerprints", "mean", "std", "image_shape", "num_samples")
    assert all(getattr(encoded.manifest, name) == getattr(pixels.manifest, name) for name in same)
    rng = np.random.default_rng(0)
    for name, split in all_splits(pixels).items():
        assert torch.equal(encoded.split(name).inputs, split.inputs)
        ours, theirs = encoded.stream(name), pixels.stream(name)
        assert (ours.input_shape, ours.chunk_rows) == (theirs.input_shape, theirs.chunk_rows)
        np.testing.assert_array_equal(ours.read(range(3, 11)), split.inputs[3:11])
        rows = rng.permutation(len(split))[:5]
        taken = ours.take(rows)
        assert torch.equal(taken.inputs, split.inputs[rows])
        assert torch.equal(taken.hard_labels, split.hard_labels[rows])
        np.testing.assert_array_equal(taken.sample_ids, split.sample_ids[rows])
        assert torch.equal(torch.cat(list(ours.in_order(7))), split.inputs)


def test_images_in_class_folders_are_told_by_their_paths(project: Project) -> None:
    split = make_split(40, shape=SHAPE)
    for image in images_of(split, encoded=True):
        path = project.folder / f"pets/{image.label}/{image.key[-3:]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.content)  # type: ignore[arg-type]
    dataset = project.run({"kind": "folder", "path": str(project.folder / "pets")})
    assert dataset.manifest.class_names == list(CLASSES)
    header, *lines = table(project.out / "samples.tsv")
    assert header == ["sample_id", "split", "class", "key"]
    ids = {f"{int(sample):016x}": row for row, sample in enumerate(split.sample_ids)}
    assert {(line[2], line[3]) for line in lines} == {
        (CLASSES[row % 4], f"{CLASSES[row % 4]}/{row:03}.png") for row in range(40)
    }
    for sample, _, label, key in lines:
        assert key == f"{label}/{ids[sample]:03}.png"
    for name in ("train", "val", "test"):
        listed = [line[0] for line in lines if line[1] == name]
        assert listed == [f"{int(sample):016x}" for sample in dataset.split(name).sample_ids]


def test_splits_that_the_source_has_are_kept_and_others_are_held_out(project: Project, other: Project) -> None:
    whole = make_split(80, shape=SHAPE)
    train = images_of(whole)
    own = Given((*train, *images_of(make_split(8, shape=SHAPE, seed=1), "val")))
    assert project.run(own, test_fraction=0.2).manifest.num_samples == {"train": 64, "val": 8, "test": 16}
    none = other.run(Given(tuple(train)), test_fraction=0.2, val_fraction=0.25)
    assert none.manifest.num_samples == {"train": 48, "val": 16, "test": 16}
    found = np.concatenate([split.sample_ids for split in all_splits(none).values()])
    assert set(found.tolist()) == set(whole.sample_ids.tolist())


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"image_px": [6, 8]}, [3, 6, 8]),
        ({"image_px": [20, 16], "channels": 1}, [1, 20, 16]),
        ({"image_px": [6, 8], "storage": "encoded"}, [3, 6, 8]),
    ],
)
def test_images_of_any_size_are_fitted_to_one(project: Project, settings: dict[str, Any], shape: list[int]) -> None:
    sizes = [(3, 9, 30), (1, 30, 9), (3, 12, 12)]
    given = tuple(
        RawImage(
            name,
            CLASSES[row % 4],
            f"{name}/{row}",
            to_png(make_split(1, shape=sizes[row % 3], seed=row).inputs[0].numpy()),
        )
        for name, rows in (("train", range(48)), ("test", range(48, 60)))
        for row in rows
    )
    dataset = project.run(Given(given), **settings)
    assert dataset.manifest.image_shape == shape
    expected = np.stack([fit(decode(image.content, shape[0]), tuple(shape[1:])) for image in given[48:]])  # type: ignore[arg-type]
    expected = expected[in_rows(sample_ids(expected))]
    test = dataset.split("test")
    np.testing.assert_array_equal(test.inputs, expected)
    np.testing.assert_array_equal(test.sample_ids, sample_ids(expected))


def test_large_images_are_kept_smaller(project: Project, other: Project) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 3, 40, 30), dtype=np.uint8)
    given = tuple(
        RawImage("train" if row < 40 else "test", CLASSES[row % 4], str(row), to_png(pixels))
        for row, pixels in enumerate(noise)
    )
    small = project.run(Given(given), storage="encoded", longest_px=20, image_px=[10, 10])
    large = other.run(Given(given), storage="encoded", longest_px=40, image_px=[10, 10])
    sizes = [sum(len(data) for name, data in files_of(p.out).items() if "/encoded/" in name) for p in (project, other)]
    assert sizes[0] < sizes[1] / 2
    test = small.split("test")
    np.testing.assert_array_equal(test.sample_ids, sample_ids(test.inputs.numpy()))  # of what training sees
    assert not np.isin(test.sample_ids, large.split("test").sample_ids).any()
    expected = np.stack([fit(image, (10, 10)) for image in noise[40:]])
    np.testing.assert_array_equal(large.split("test").inputs, expected[in_rows(sample_ids(expected))])


# Lists, and what is said.


def test_images_that_repeat_are_listed_side_by_side(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_source()
    again = [replace(source.given[row], key=f"again/{row}") for row in (5, 5, 9)]
    again += [replace(source.given[row], key=f"leak/{row}", split="test") for row in (5, 7)]
    manifest = project.run(replace(source, given=(*source.given, *again))).manifest
    assert (manifest.num_repeated_in_train, manifest.num_shared_with_test) == (3, 2)
    said = capsys.readouterr().err.splitlines()[-1]
    assert "3 training images repeat another one; 2 test images are in the training set too" in said
    assert str(project.out / "duplicates.tsv") in said
    groups: dict[str, list[str]] = {}
    for sample, _, _, key in table(project.out / "duplicates.tsv")[1:]:
        groups.setdefault(sample, []).append(key)
    found = sorted(sorted(keys) for keys in groups.values())
    assert found == [
        ["again/5", "again/5", "leak/5", "train/005"],
        ["again/9", "train/009"],
        ["leak/7", "train/007"],
    ]


def test_validation_images_that_are_trained_on_are_counted(project: Project) -> None:
    source = make_source()
    val = [replace(image, split="val") for image in source.given[:4]]
    assert project.run(replace(source, given=(*source.given, *val))).manifest.num_shared_with_val == 4


def test_keys_with_tabs_and_ends_of_lines_stay_one_field(project: Project) -> None:
    keys = ["a\tb", "a\nb", "a\\tb", "ä\udcff"]
    source = make_source()
    for row, key in enumerate(keys):
        source = changed(source, 48 + row, key=key)
    project.run(source)
    found = {line.split(b"\t")[3] for line in (project.out / "samples.tsv").read_bytes().splitlines()}
    assert found >= {rb"a\tb", rb"a\nb", rb"a\\tb", "ä".encode() + rb"\udcff"}


def test_broken_images_are_refused_with_a_list_and_fixed_ones_are_looked_at_again(project: Project) -> None:
    good = make_source(encoded=True)
    bad = changed(changed(good, 7, content=b""), 20, content=good.given[20].content[:50])  # type: ignore[index]
    with pytest.raises(DataError) as refused:
        project.run(bad)
    listing = project.work / "prepare.broken.tsv"
    line = str(refused.value)
    assert line.startswith("train/007: empty (0 bytes); 2 of 64 images are broken, listed in ")
    assert str(listing) in line
    assert "\n" not in line
    assert "prepare.broken: skip" in line
    assert [row[0] for row in table(listing)] == ["key", "train/007", "train/020"]
    assert not project.out.exists()
    assert project.run(good).manifest.num_samples["train"] == 36


def test_broken_images_may_be_skipped(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    good = make_source(encoded=True)
    bad = changed(changed(good, 7, content=b"nothing"), 50, content=Path("/nowhere.png"))
    manifest = project.run(bad, broken="skip").manifest
    assert manifest.num_skipped == 2
    assert manifest.num_samples == {"train": 35, "val": 12, "test": 15}
    assert table(project.out / "broken.tsv")[1:] == [
        ["train/007", "not an image (begins with b'nothing')"],
        ["test/002", "no such file"],
    ]
    assert "2 broken images skipped" in capsys.readouterr().err


def unlabelled(source: Given, rows: range) -> Given:
    for row in rows:
        source = changed(source, row, label=None)
    return source


def test_unlabelled_images_are_for_training_alone(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = project.run(unlabelled(make_source(), range(20, 36)))
    splits = all_splits(dataset)
    assert int((splits["train"].hard_labels == UNLABELLED).sum()) == dataset.manifest.num_unlabelled == 16
    assert dataset.manifest.num_samples == {"train": 40, "val": 8, "test": 16}
    assert splits["val"].hard_labels.min() >= 0
    assert splits["test"].hard_labels.min() >= 0
    assert "40 train (16 of them unlabelled), 8 val" in capsys.readouterr().err
    assert sum(line[2] == "" for line in table(project.out / "samples.tsv")) == 16


def test_what_came_out_is_said_in_a_line(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.run(make_source(counted=False, names=(*CLASSES, "e")))
    said = capsys.readouterr().err.splitlines()
    assert said[:5] == [f"prepare: class {n} {name!r}: 12 train, 4 test" for n, name in enumerate(CLASSES)] + [
        "prepare: class 4 'e': no images"
    ]
    assert said[-3:] == [
        "prepare: no images of 1 classes, the first: 'e'",
        "prepare: values: 0 to 223 (black is 0, white is 255)",
        "prepare: given, 5 classes, images 3 x 10 x 12, 36 train, 12 val, 16 test",
    ]


# Mistakes.

WRONG: list[tuple[Callable[[Given], Given], dict[str, Any], type[PipelineError], str]] = [
    (lambda s: replace(s, given=()), {}, DataError, "source .*: no images"),
    (lambda s: unlabelled(s, range(64)), {}, DataError, "all 64 images are unlabelled"),
    (
        lambda s: without(s, *(row for row in range(4, 48) if row % 4 == 2)),
        {},
        DataError,
        "class c: 1 training images.*val_fraction",
    ),
    (
        lambda s: without(s, *range(3, 48, 4)),
        {},
        DataError,
        r"test/0\d\d: class 'd' is in test, but no training image is of it",
    ),
    (lambda s: changed(s, 60, label=None), {}, DataError, "test/012: unlabelled, in the split test"),
    (lambda s: changed(s, 3, label="cc"), {}, SourceError, "train/003: class 'cc'.*did you mean 'c'"),
    (
        lambda s: changed(s, 9, content=np.zeros((3, 11, 12), np.uint8)),
        {},
        DataError,
        r"train/000: 10 x 12 pixels \(height x width\), but train/009 has 11 x 12.*image_px",
    ),
    (
        lambda s: changed(s, 9, content=np.zeros((4, 10, 12), np.uint8)),
        {},
        DataError,
        "train/009: 4 channels, expected 1 or 3; 1 of 64",
    ),
    (
        lambda s: replace(s, given=tuple(replace(image, content=b"x") for image in s.given)),
        {"broken": "skip"},
        DataError,
        "none of its 64 images can be decoded",
    ),
    (lambda s: s, {"longest_px": 8}, PipelineError, "prepare.longest_px: 8, and storage: pixels"),
    (lambda s: s, {"channels": 2}, PipelineError, "prepare.channels"),
    (lambda s: s, {"image_px": [8]}, PipelineError, "prepare.image_px"),
]


@pytest.mark.parametrize(("edit", "settings", "kind", "told"), WRONG)
def test_a_mistake_is_one_clear_line(
    project: Project,
    edit: Callable[[Given], Given],
    settings: dict[str, Any],
    kind: type[PipelineError],
    told: str,
) -> None:
    with pytest.raises(kind, match=told) as caught:
        project.run(edit(make_source()), **settings)
    assert "\n" not in str(caught.value)
    assert not project.out.exists()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("calls", [0, 9, 25])
def test_a_full_disk_is_one_line_and_loses_nothing(
    project: Project, other: Project, calls: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_source()
    other.run(source)
    real, left = os.fsync, iter(range(calls))

    def full(handle: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SystemExit), one_line_errors():
            project.run(source)
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"error: disk: No space left on device \(/.* has [\d,.]+ MB left\); free space, then run", said), (
        said
    )
    project.run(source)
    assert files_of(project.out) == files_of(other.out)


# Killed.


def run_killed(place: Project, storage: str, step: int, log: Path | None = None) -> int:
    """Runs in a process of its own, killed before a step (-1: not); returns how it ended."""

    def work() -> None:
        die_at(step, log)
        place.run(make_source(encoded=True), storage=storage)

    return ended(fork(work, place.folder.parent / "said.txt"))


@pytest.mark.usefixtures("small_blocks")
def test_a_killed_run_goes_on_to_the_same_bytes(project: Project, other: Project, tmp_path: Path) -> None:
    log = tmp_path / "steps.txt"
    assert run_killed(other, "pixels", -1, log) == 0
    count = len(log.read_text().splitlines())
    for step in range(count // 10, count, count // 3):
        shutil.rmtree(project.folder, ignore_errors=True)
        assert run_killed(project, "pixels", step) == -signal.SIGKILL
        assert run_killed(project, "pixels", -1) == 0
        assert files_of(project.out) == files_of(other.out), step
        assert not list(project.work.glob("prepare-*"))


@pytest.mark.usefixtures("small_blocks")
def test_a_run_that_is_killed_again_and_again_comes_to_the_same_bytes(project: Project, other: Project) -> None:
    assert run_killed(other, "encoded", -1) == 0
    kills = 0
    while run_killed(project, "encoded", 25 + 25 * kills) == -signal.SIGKILL:
        kills += 1
    assert 1 < kills < 12
    assert files_of(project.out) == files_of(other.out)


@dataclass(frozen=True)
class Stopping(Given):
    """A source that stops after 29 images, and remembers where it was asked to begin.

    The first pass of a run lists the images, and comes to its end.
    """

    asked: list[int] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        self.passes.append(start)
        if len(self.passes) % 2:
            yield from super().images(raw, start)
            return
        self.asked.append(start)
        for number, image in enumerate(super().images(raw, start)):
            if number == 29:
                raise KeyboardInterrupt
            yield image


@pytest.mark.usefixtures("small_blocks")
def test_a_stopped_run_goes_on_behind_its_last_whole_block(project: Project, other: Project) -> None:
    source = Stopping(make_source().given)
    other.run(make_source())
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            project.run(source)
    project.run(source)
    assert source.asked == [0, 20, 40]
    assert files_of(project.out) == files_of(other.out)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("suffix", ["images", "keys", "record"])
def test_what_a_machine_had_not_yet_flushed_when_it_stopped_is_made_again(
    project: Project, other: Project, suffix: str
) -> None:
    source = Stopping(make_source().given)
    other.run(make_source())
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            project.run(source)
    last = max(project.work.rglob(f"pool-*/*/*.{suffix}"), key=lambda path: path.stat().st_size)
    last.write_bytes(last.read_bytes()[:-1])
    while not project.out.exists():
        with suppress(KeyboardInterrupt):
            project.run(source)
    assert source.asked[:2] == [0, 20]
    assert source.asked[2] < 40
    assert files_of(project.out) == files_of(other.out)


@pytest.mark.usefixtures("small_blocks")
def test_a_piece_of_which_a_record_was_lost_is_not_whole(
    project: Project, other: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source()
    other.run(source)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "check_pool", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            project.run(source)
    (piece,) = {path.parent for path in project.work.rglob("pool-*/*/whole")}
    max(piece.glob("*.record")).unlink()
    project.run(source)
    assert files_of(project.out) == files_of(other.out)


def test_an_image_that_is_not_as_it_was_kept_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def damage(*_: object, **__: object) -> None:
        file = next(project.work.rglob("pool-*/*/*.images"))
        content = bytearray(file.read_bytes())
        content[100] ^= 4
        file.write_bytes(content)

    monkeypatch.setattr(prepare, "check_pool", damage)
    with pytest.raises(DataError, match=r"pool-\w+: an image is not as it was kept; delete it and run this again"):
        project.run(make_source())


@pytest.mark.usefixtures("small_blocks")
def test_work_that_was_begun_with_other_files_is_not_gone_on_with(
    project: Project, other: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(folder: Path, images: list[RawImage]) -> dict[str, Any]:
        for image in images:
            path = folder / f"{image.label}/{image.key[-3:]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image.content)  # type: ignore[arg-type]
        return {"kind": "folder", "path": str(folder)}

    images = images_of(make_split(48, shape=SHAPE), encoded=True)
    source = put(project.folder / "pets", images[10:])
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "check_pool", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            project.run(source)
    put(project.folder / "pets", images[:10])
    project.run(source)
    other.run(source)
    assert files_of(project.out) == files_of(other.out)


def test_a_finished_run_is_not_done_twice(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.run(make_source())
    project.run(make_source())
    assert "nothing to do" in capsys.readouterr().err


# Memory.


@pytest.mark.parametrize(("storage", "counted"), [("pixels", 1), ("encoded", None)])
def test_memory_does_not_grow_with_the_data(
    project: Project, storage: str, counted: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 18)
    size_buckets(monkeypatch, 1 << 18)
    monkeypatch.setattr(arrays, "SHARD_BYTES", 1 << 18)
    count, size = 100, 128  # 5 MB of pixels, 2.5 MB of files
    noise = np.random.default_rng(0).integers(0, 256, (3, size, size), dtype=np.uint8)

    @dataclass(frozen=True)
    class Streamed(Given):
        def count(self, raw: Path) -> int | None:
            return counted

        def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
            for row in range(start, count):
                pixels = noise + np.uint8(row)
                pixels[:, ::2] = row
                yield RawImage("train" if row % 5 else "test", CLASSES[row % 4], str(row), pixels)

    tracemalloc.start()
    try:
        project.run(Streamed(()), storage=storage)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3e6


# Damaged encoded images.


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return (
            Project(tmp_path_factory.mktemp("undamaged"), monkeypatch)
            .run(make_source(encoded=True), storage="encoded")
            .folder
        )


@pytest.fixture
def encoded(undamaged: Path, tmp_path: Path) -> ImageDataset:
    return ImageDataset(shutil.copytree(undamaged, tmp_path / "prepare"))


@pytest.mark.parametrize("cores", [1, 3])
def test_windows_of_encoded_images_are_those_of_pixels_however_small(
    encoded: ImageDataset, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.images.own_cores", lambda: cores)
    split, pixels = encoded.stream("train"), encoded.split("train").inputs
    windows = [[range(30, 33), range(3, 4)], [range(33, 36)], [range(1)], [range(4, 20), range(20, 22)], [range(1, 3)]]
    for some in (windows, windows[:2], windows[:1]):
        found = split.windows(some, lambda page: {"rows": np.arange(page.start, page.stop)})
        for window, columns in zip(some, found, strict=True):
            rows = np.concatenate([np.arange(page.start, page.stop) for page in window])
            assert torch.equal(split.window_inputs(columns), pixels[rows])
            assert np.array_equal(columns["rows"], rows)
    left = split.windows(windows, lambda page: {})
    next(left)
    left.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_encoded_files_are_kept_within_their_share_of_memory_and_read_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.images.IMAGE_CHUNK_BYTES", chunk := 4096)
    dataset = project.run(make_source(encoded=True), storage="encoded")
    pixels, rows = dataset.split("train").inputs, np.random.default_rng(0).permutation(36)
    real, reads = ArrayGroup.read_rows, list[int]()

    def read_rows(group: ArrayGroup, name: str, start: int, stop: int) -> np.ndarray:
        reads.append(start)
        return real(group, name, start, stop)

    monkeypatch.setattr(ArrayGroup, "read_rows", read_rows)

    def chunks_read(split: SplitOnDisk) -> int:
        reads.clear()
        assert torch.equal(split.take(rows).inputs, pixels[rows])
        return len(reads)

    count = chunks_read(dataset.stream("train"))
    assert count > 3
    for kept in (0, 2, count):
        split = dataset.stream("train", kept * chunk)
        assert [chunks_read(split) for _ in range(3)] == [count, count - kept, count - kept]
        assert chunks_read(pickle.loads(pickle.dumps(split))) == count  # a worker reads for itself


@pytest.mark.parametrize("field", ["encoded", "offsets"])
@pytest.mark.parametrize("damage", ["flipped", "lost"])
def test_damaged_encoded_images_are_refused(encoded: ImageDataset, field: str, damage: str) -> None:
    file = next(path for path in (encoded.folder / "train.zarr" / field / "c").rglob("*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.unlink() if damage == "lost" else file.write_bytes(content)
    with pytest.raises(StoreError, match=r"train\.zarr"):
        encoded.split("train")
    with pytest.raises(StoreError, match=r"train\.zarr"):
        encoded.stream("train").read(range(36))


def test_offsets_of_other_images_are_refused(encoded: ImageDataset) -> None:
    for name in ("encoded", "offsets"):
        kept = encoded.folder / f"train.zarr/{name}"
        aside = encoded.folder / "aside"
        shutil.move(kept, aside)
        shutil.copytree(encoded.folder / f"val.zarr/{name}", kept)
        with pytest.raises(DataError, match="its offsets do not fit"):
            encoded.stream("train")
        shutil.rmtree(kept)
        shutil.move(aside, kept)
    encoded.split("train")


def test_an_image_that_another_decoder_refuses_is_told_by_its_row(encoded: ImageDataset) -> None:
    group = ArrayGroup.reopen(encoded.folder / "train.zarr")
    content, borders = group.read_whole("encoded"), group.read_whole("offsets")
    content[borders[5] : borders[6]] = 0
    group.write("encoded", content)
    for read in (lambda: encoded.split("train"), lambda: encoded.stream("train").take(np.array([2, 5]))):
        with pytest.raises(DataError, match=r"train\.zarr, row 5: .*not an image.*dvc repro prepare"):
            read()


def test_arrays_with_their_channels_last_are_prepared_as_they_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=np.arange(60) % 2)
    params = small_params()
    params["prepare"] |= {"source": {"kind": "arrays", "path": str(tmp_path / "a.npz")}, "val_fraction": 0.2}
    prepare.main(write_params(tmp_path, params), tmp_path / "raw", tmp_path / "data", tmp_path / "work")
    data = ImageDataset(tmp_path / "data")
    found = [image.tobytes() for split in ("train", "val", "test") for image in data.split(split).inputs.numpy()]
    assert sorted(found) == sorted(image.transpose(2, 0, 1).tobytes() for image in images)
