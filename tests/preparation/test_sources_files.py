"""People's own images: the same ones come the same way from whatever layout they lie in."""

import gzip
import json
import os
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import (
    Sample,
    all_of,
    idx,
    image_file,
    make_samples,
    source,
    write_folder,
    write_manifest,
    write_parquet,
    write_tar,
    write_webdataset,
)

from pipeline.core.errors import SourceError
from pipeline.data.decoding import decode
from pipeline.preparation.sources.base import Source

RAW = Path("raw")
NAMES = ["ant", "bee", "cat"]
COLUMNS = {"image_column": "file", "label_column": "what", "split_column": "part"}

# Every layout: writes samples to a folder, and gives the source that reads them.
LAYOUTS: dict[str, Callable[[Path, list[Sample]], Source]] = {}


def layout(make: Callable[[Path, list[Sample]], Source]) -> Callable[[Path, list[Sample]], Source]:
    LAYOUTS[make.__name__] = make
    return make


@layout
def folder(path: Path, samples: list[Sample]) -> Source:
    write_folder(path, samples)
    return source("folder", path)


@layout
def manifest_csv(path: Path, samples: list[Sample]) -> Source:
    write_manifest(path / "table.csv", samples)
    return source("manifest", path / "table.csv", **COLUMNS)


@layout
def manifest_tsv(path: Path, samples: list[Sample]) -> Source:
    write_manifest(path / "table.tsv", samples)
    return source("manifest", path / "table.tsv", **COLUMNS)


@layout
def manifest_parquet(path: Path, samples: list[Sample]) -> Source:
    write_manifest(path / "table.parquet", samples)
    return source("manifest", path / "table.parquet", **COLUMNS)


@layout
def webdataset_of_names(path: Path, samples: list[Sample]) -> Source:
    write_webdataset(path, samples)
    return source("webdataset", path)


@layout
def webdataset_of_json(path: Path, samples: list[Sample]) -> Source:
    write_webdataset(path, samples, as_json=True)
    return source("webdataset", path, label_extension="json", label_key="class")


@layout
def webdataset_packed(path: Path, samples: list[Sample]) -> Source:
    write_webdataset(path, samples, suffix=".tar.gz")
    return source("webdataset", path)


@layout
def parquet_of_hugging_face(path: Path, samples: list[Sample]) -> Source:
    write_parquet(path, samples, NAMES)
    return source("parquet", path)


@layout
def parquet_of_bytes_and_text(path: Path, samples: list[Sample]) -> Source:
    write_parquet(path, samples, plain=True)
    return source("parquet", path)


def told(images: list) -> list[tuple[str, str | None, bytes]]:
    return [(one.split, one.label, decode(one.content, 3).tobytes()) for one in images]


@pytest.fixture(params=LAYOUTS)
def lay(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[list[Sample]], Source]:
    return lambda samples: LAYOUTS[request.param](tmp_path, samples)


@pytest.mark.parametrize("labels", [("ant", "bee", "cat"), ("ant", "bee", "cat", None)], ids=["labelled", "some not"])
def test_the_same_images_come_in_the_same_order_from_every_layout(
    lay: Callable[[list[Sample]], Source], labels: tuple[str | None, ...]
) -> None:
    samples = sorted(make_samples(labels), key=lambda one: ("train val test".index(one.split), one.label or "_"))
    one = lay(samples)
    assert one.class_names(RAW) == ("ant", "bee", "cat")
    assert one.count(RAW) == len(samples)
    expected = [(sample.split, sample.label, decode(sample.content, 3).tobytes()) for sample in samples]
    assert told(all_of(one)) == expected


def test_images_from_any_start_are_the_rest_of_all(lay: Callable[[list[Sample]], Source]) -> None:
    one = lay(make_samples())
    everything = all_of(one)
    for start in range(len(everything) + 2):
        rest = all_of(one, start)
        assert [image.key for image in rest] == [image.key for image in everything[start:]]
        assert told(rest) == told(everything[start:])


def test_a_key_names_one_image_and_is_relative(lay: Callable[[list[Sample]], Source], tmp_path: Path) -> None:
    keys = [image.key for image in all_of(lay(make_samples()))]
    assert len(set(keys)) == len(keys)
    assert not [key for key in keys if str(tmp_path) in key]


def test_a_moved_folder_gives_the_same_keys(lay: Callable[[list[Sample]], Source], tmp_path: Path) -> None:
    one = lay(make_samples())
    before = [image.key for image in all_of(one)]
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(moved)
    again = replace(one, path=one.path.replace(str(tmp_path), str(moved)))  # type: ignore[attr-defined, type-var]
    assert [image.key for image in all_of(again)] == before


def put(path: Path, content: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_folder_without_splits_is_all_for_training(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/deep/1.png", "b/10.jpeg", "a/x.Tiff", "_unlabelled/u.webp"):
        put(tmp_path / name)
    one = source("folder", tmp_path)
    assert one.class_names(RAW) == ("a", "b")
    assert [(image.split, image.label, image.key) for image in all_of(one)] == [
        ("train", None, "_unlabelled/u.webp"),
        ("train", "a", "a/x.Tiff"),
        ("train", "b", "b/10.jpeg"),
        ("train", "b", "b/2.JPG"),
        ("train", "b", "b/deep/1.png"),
    ]


@pytest.mark.parametrize("name", ["valid", "validation", "Val"])
def test_a_split_may_be_called_by_its_other_names(name: str, tmp_path: Path) -> None:
    for split in ("Train", name):
        for label in "ab":
            put(tmp_path / split / label / "1.png")
    assert [image.split for image in all_of(source("folder", tmp_path))] == ["train", "train", "val", "val"]


def test_other_files_are_counted_once_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png", "a/notes.txt", "b/deep/Thumbs.db", "b/.hidden.png", ".git/c/1.png", "LICENSE"):
        put(tmp_path / name)
    one = source("folder", tmp_path)
    one.class_names(RAW)
    assert [image.key for image in all_of(one)] == ["a/1.png", "b/1.png"]
    assert one.count(RAW) == 2
    assert one.notes.lines() == [
        "1 files left out: no image by its content (no suffix), e.g. 'LICENSE'",
        "1 files left out: no image by its name (.txt), e.g. 'a/notes.txt'",
        "1 files left out: hidden, e.g. 'b/.hidden.png'",
    ]


def test_classes_that_are_links_are_read(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "1.png")
    put(tmp_path / "images" / "a" / "1.png")
    (tmp_path / "images" / "b").symlink_to(tmp_path / "elsewhere")
    assert [image.key for image in all_of(source("folder", tmp_path / "images"))] == ["a/1.png", "b/1.png"]


def test_a_folder_is_not_held_in_memory(tmp_path: Path) -> None:
    for label in "abcdef":
        folder = tmp_path / label
        folder.mkdir()
        put(folder / "0.png")
        for number in range(1, 400):
            os.link(folder / "0.png", folder / f"a-long-name-of-a-file-so-that-it-counts-{number:09}.png")
    one = source("folder", tmp_path)
    one.class_names(RAW)
    tracemalloc.start()
    assert sum(1 for _ in one.images(RAW)) == 2_400
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 400 * 200  # the names of one class folder, twice: sorted and not


def test_a_manifest_may_have_its_images_elsewhere(tmp_path: Path) -> None:
    put(tmp_path / "tables" / "t.csv", b"\xef\xbb\xbfpath,label\r\na.png,7\r\n\r\nb.png,10\r\nc.png,\r\n")
    (tmp_path / "pictures").mkdir()
    one = source("manifest", tmp_path / "tables" / "t.csv", root=str(tmp_path / "pictures"))
    assert one.class_names(RAW) == ("7", "10")  # by their value
    assert [(image.label, image.content) for image in all_of(one)] == [
        ("7", tmp_path / "pictures" / "a.png"),
        ("10", tmp_path / "pictures" / "b.png"),
        (None, tmp_path / "pictures" / "c.png"),
    ]


CLASS_LISTS: list[object] = [["ant", "bee", "cat"], "classes.txt"]


@pytest.mark.parametrize("classes", CLASS_LISTS, ids=["list", "file"])
def test_numbers_become_the_names_of_a_list(classes: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("classes.txt").write_text("ant\nbee\ncat\n")
    image = image_file(0)
    numbers = [2, 0, -1]
    write_tar(
        Path("tars/a.tar"),
        [
            (f"{row}.{ext}", c)
            for row, n in enumerate(numbers)
            for ext, c in (("png", image), ("cls", f"{n}\n".encode()))
        ],
    )
    Path("table.csv").write_text("path,label\n" + "".join(f"{n}.png,{n}\n" for n in numbers))
    pq.write_table(pa.table({"image": pa.array([image] * 3), "label": numbers}), "table.parquet")
    np.savez("a.npz", train_images=np.zeros((3, 2, 2), np.uint8), train_labels=np.array(numbers))
    for kind, path in (
        ("webdataset", "tars"),
        ("manifest", "table.csv"),
        ("parquet", "table.parquet"),
        ("arrays", "a.npz"),
    ):
        one = source(kind, Path(path), classes=classes)
        assert one.class_names(RAW) == ("ant", "bee", "cat")
        assert [image.label for image in all_of(one)] == ["cat", "ant", None]


@pytest.mark.parametrize(
    ("pattern", "tars"),
    [
        ("shards-{000..001}.tar", [0, 1]),
        ("shards-{001,002}.tar", [1, 2]),
        ("shards-00*.tar", [0, 1, 2]),
        ("shards-00[12].tar", [1, 2]),
        ("*.tar", [0, 1, 2]),
        ("shards-001.tar", [1]),
        ("", [0, 1, 2]),
    ],
)
def test_tars_are_named_by_a_pattern(pattern: str, tars: list[int], tmp_path: Path) -> None:
    for number in range(3):
        write_tar(
            tmp_path / f"shards-{number:03}.tar",
            [("d/.hidden", b"")]
            + [(f"d/{label}.{ext}", b"%d" % label) for label in range(2) for ext in ("cls", "PNG", "json")],
        )
    found = [image.key for image in all_of(source("webdataset", tmp_path / pattern))]
    assert found == [f"shards-{number:03}.tar:d/{label}" for number in tars for label in range(2)]


def test_a_tar_of_many_members_takes_little_memory(tmp_path: Path) -> None:
    members = [(f"{row:06}.{ext}", b"1") for row in range(400) for ext in ("png", "cls")]
    write_tar(tmp_path / "a.tar", [(name, b"2" if name.startswith("000000.cls") else text) for name, text in members])
    one = source("webdataset", tmp_path)
    tracemalloc.start()
    assert one.class_names(RAW) == ("1", "2")
    assert sum(1 for _ in one.images(RAW)) == 400
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**18


def test_parquet_without_its_reader_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path, make_samples(), NAMES)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"pyarrow, which reads Parquet, .*install the extra `data`"):
        source("parquet", tmp_path).class_names(RAW)


def test_hugging_faces_classes_keep_their_order_and_may_lack_images(tmp_path: Path) -> None:
    names = ["cat", "zebra", "ant", "bee"]
    write_parquet(tmp_path, make_samples(), names)
    assert source("parquet", tmp_path).class_names(RAW) == tuple(names)


def test_an_image_that_parquet_does_not_hold_is_empty(tmp_path: Path) -> None:
    images = pa.array([{"bytes": image_file(0), "path": "a"}, {"bytes": None, "path": "b"}])
    pq.write_table(pa.table({"image": images, "label": ["a", "b"]}), tmp_path / "x.parquet")
    assert [image.content for image in all_of(source("parquet", tmp_path / "x.parquet"))] == [image_file(0), b""]


# Arrays of pixels.

PIXELS = np.random.default_rng(3).integers(0, 256, (6, 4, 5, 3), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def assert_pixels(one: Source, expected: dict[str, np.ndarray]) -> None:
    images = all_of(one)
    assert one.count(RAW) == len(images) == sum(map(len, expected.values()))
    assert list(dict.fromkeys(image.split for image in images)) == list(expected)
    for split, arrays in expected.items():
        np.testing.assert_array_equal([image.content for image in images if image.split == split], arrays)
    for start in (1, len(images) - 1, len(images)):
        assert [image.key for image in all_of(one, start)] == [image.key for image in images[start:]]


@pytest.mark.parametrize("how", ["npz", "npy"])
@pytest.mark.parametrize(
    ("images", "layout"),
    [
        (PIXELS, None),
        (PIXELS.transpose(0, 3, 1, 2), None),
        (PIXELS[..., 0], None),
        (PIXELS[..., :1], "nhwc"),
        (PIXELS[:, :3], "nhwc"),
        (PIXELS[:, :3], "nchw"),
    ],
)
def test_arrays_of_any_layout_become_channels_first(
    images: np.ndarray, layout: str | None, how: str, tmp_path: Path
) -> None:
    arrays = {
        "train_images": images,
        "train_labels": LABELS[:, None],
        "test_images": images[:2],
        "test_labels": LABELS[:2],
    }
    if how == "npz":
        np.savez_compressed(tmp_path / "a.npz", **arrays)
    else:
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
    one = source("arrays", tmp_path / "a.npz" if how == "npz" else tmp_path, layout=layout)
    expected = images[:, None] if images.ndim == 3 else images
    if layout == "nhwc" or (layout is None and images.shape[-1] == 3):
        expected = images.transpose(0, 3, 1, 2)
    assert_pixels(one, {"train": expected, "test": expected[:2]})
    assert one.class_names(RAW) == ("0", "1", "2")


def test_labels_in_arrays_may_be_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=PIXELS, train_labels=np.array(["b", "a", "b", "a", "b", ""]))
    one = source("arrays", tmp_path / "a.npz")
    assert one.class_names(RAW) == ("a", "b")
    assert [image.label for image in all_of(one)] == ["b", "a", "b", "a", "b", None]


def test_files_of_arrays_are_mapped_and_an_image_holds_only_itself(tmp_path: Path) -> None:
    np.save(tmp_path / "train_images.npy", np.zeros((2000, 32, 32, 3), np.uint8))
    np.save(tmp_path / "train_labels.npy", np.arange(2000) % 2)
    one = source("arrays", tmp_path)
    tracemalloc.start()
    assert one.class_names(RAW) == ("0", "1")
    assert sum(1 for _ in one.images(RAW)) == 2000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    first = next(one.images(RAW)).content
    assert isinstance(first, np.ndarray)
    assert first.base is None


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("style", ["{split}-{what}-idx{rank}-ubyte", "emnist-letters-{split}-{what}-idx{rank}-ubyte"])
def test_idx_pairs_are_found_by_their_names(style: str, packed: bool, tmp_path: Path) -> None:
    for split, rows in (("train", slice(0, 6)), ("t10k" if "emnist" not in style else "test", slice(0, 3))):
        for what, array in (("images", PIXELS[rows, ..., 0]), ("labels", LABELS[rows].astype(np.uint8))):
            name = style.format(split=split, what=what, rank=array.ndim)
            content = idx(array)
            put(tmp_path / (f"{name}.gz" if packed else name), gzip.compress(content) if packed else content)
    put(tmp_path / "README.txt")
    one = source("idx", tmp_path)
    assert_pixels(one, {"train": PIXELS[:, None, ..., 0], "test": PIXELS[:3, None, ..., 0]})
    assert one.class_names(RAW) == ("0", "1", "2")
    assert source("idx", tmp_path, classes=["x", "y", "z"]).class_names(RAW) == ("x", "y", "z")


def cifar_records(labels: list[tuple[int, ...]], seed: int) -> tuple[bytes, np.ndarray]:
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 3, 32, 32), np.uint8)
    rows = [bytes(label) + image.tobytes() for label, image in zip(labels, images, strict=True)]
    return b"".join(rows), images


def test_cifar_10_is_read_batch_by_batch(tmp_path: Path) -> None:
    train = []
    for number in range(1, 6):
        content, images = cifar_records([(number,), (number - 1,)], number)
        put(tmp_path / f"data_batch_{number}.bin", content)
        train.append(images)
    content, test = cifar_records([(3,)], 9)
    put(tmp_path / "test_batch.bin", content)
    one = source("cifar", tmp_path)
    assert one.class_names(RAW) == tuple("0123456789")
    assert_pixels(one, {"train": np.concatenate(train), "test": test})
    assert [image.key for image in all_of(one)[1:3]] == ["data_batch_1.bin:1", "data_batch_2.bin:0"]
    put(tmp_path / "batches.meta.txt", b"\n".join(b"name%d" % number for number in range(10)) + b"\n\n")
    named = source("cifar", tmp_path)
    assert named.class_names(RAW)[3] == "name3"
    assert all_of(named)[0].label == "name1"


@pytest.mark.parametrize(("labels", "expected"), [("fine", ["71", "5"]), ("coarse", ["3", "19"])])
def test_cifar_100_has_fine_and_coarse_labels(labels: str, expected: list[str], tmp_path: Path) -> None:
    content, images = cifar_records([(3, 71), (19, 5)], 0)
    put(tmp_path / "train.bin", content)
    put(tmp_path / "test.bin", content)
    one = source("cifar", tmp_path, labels=labels)
    assert len(one.class_names(RAW)) == {"fine": 100, "coarse": 20}[labels]
    assert [image.label for image in all_of(one)] == expected * 2
    assert_pixels(one, {"train": images, "test": images})


def test_json_metadata_that_is_not_hugging_faces_is_no_fault(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([b"1", b"2"]), "label": ["a", "b"]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": None})})
    pq.write_table(table, tmp_path / "x.parquet")
    assert source("parquet", tmp_path).class_names(RAW) == ("a", "b")
