"""Labels, class names and splits as people have them: one reading for every source, and one line
where something can't be.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import all_of, idx, image_file, source, write_tar
from project import small_params, write_params

from pipeline.core.errors import ConfigError, DataError, SourceError
from pipeline.data.dataset import ImageDataset
from pipeline.data.decoding import decode
from pipeline.labelling.imported_logits import read_logits
from pipeline.labelling.stores import fitting_encodings
from pipeline.labels.encodings import LabelSpace, read_encodings
from pipeline.models.classes import match_classes
from pipeline.preparation.sources.base import Source
from pipeline.preparation.sources.labels import Classes, in_order, read_classes
from pipeline.preparation.sources.split_names import split_named
from stages import prepare

RAW = Path("raw")
IMAGE = image_file(0)


def put(path: Path, content: bytes = IMAGE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def folder(here: Path, *names: str, **settings: object) -> Source:
    for name in names:
        put(here / name)
    return source("folder", here, **settings)


def understood(one: Source) -> tuple[tuple[str, ...], list[tuple[str, str | None]]]:
    """Returns the classes, and split and class of every image."""
    return one.class_names(RAW), [(image.split, image.label) for image in all_of(one)]


def refused(one: Source) -> str:
    """Returns the line with which a source is refused."""
    with pytest.raises(SourceError) as error:
        understood(one)
    line = str(error.value)
    assert len(f"error: {line}") <= 300
    assert "\n" not in line
    return line


# One reading of labels.

NO_LABELS: list[object] = [None, "", " ", "-1", -1, -1.0, float("nan"), "nan", "NaN", "NA", "N/A", "None", "null"]


@pytest.mark.parametrize("classes", [Classes(), Classes(("cat", "dog")), Classes(("3", "7"), of_numbers=True)])
@pytest.mark.parametrize("label", NO_LABELS, ids=repr)
def test_no_label_is_written_in_many_ways(label: object, classes: Classes) -> None:
    assert classes.name(label, "here") is None


ACCENT = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
READ: list[tuple[object, list[str] | None, str]] = [
    ("cat", None, "cat"),
    (" cat\t", None, "cat"),
    (b"cat\n", None, "cat"),
    (normalize("NFD", ACCENT), None, ACCENT),
    (7, None, "7"),
    ("7", None, "7"),
    ("7.0", None, "7"),
    (7.0, None, "7"),
    (np.float32(7), None, "7"),
    ("007", None, "007"),
    ("none", None, "none"),
    ("7up", None, "7up"),
    ("1e3", None, "1e3"),
    (True, None, "True"),
    ("True", None, "True"),
    (1, ["cat", "dog"], "dog"),
    ("1", ["cat", "dog"], "dog"),
    ("1.0", ["cat", "dog"], "dog"),
    (1, ["3", "1"], "1"),
    ("1", ["3", "1"], "1"),
    ("01", ["3", "1"], "1"),
    (3.0, ["3", "1"], "3"),
    (-1, ["-1", "1"], "-1"),
    ("None", ["None", "Some"], "None"),
    ("0.5", ["0.5", "1.0"], "0.5"),
    (1, ["0.5", "1.0"], "1.0"),
    (ACCENT, [normalize("NFD", ACCENT), "x"], ACCENT),
]


@pytest.mark.parametrize(("label", "classes", "name"), READ, ids=repr)
def test_a_label_is_read_in_one_way(label: object, classes: list[str] | None, name: str) -> None:
    given = read_classes(None if classes is None else tuple(classes))
    assert given.name(label, "here") == name


UNREAD: list[tuple[object, list[str] | None, str]] = [
    (0.5, None, "here: label 0.5, a fraction; expected a name or a whole number; name the class in `classes`"),
    ("0.5", None, "here: label 0.5, a fraction"),
    (float("inf"), None, "here: label inf, a fraction"),
    (-2, None, "here: label -2; expected 0 or more, or -1 for none"),
    ("-2", None, "here: label -2; expected 0 or more"),
    ([1, 2], None, r"here: label \[1, 2\] \(list\); expected one name or whole number"),
    ({"a": 1}, None, "here: label .* \\(dict\\)"),
    (2, ["cat", "dog"], "here: label 2 is out of range; expected 0 to 1"),
    ("bird", ["cat", "dog"], "here: label 'bird', which is no class; expected one of: cat, dog"),
    (0, ["1", "2"], "here: label 0, which is no class; expected one of: 1, 2"),
]


@pytest.mark.parametrize(("label", "classes", "line"), UNREAD, ids=repr)
def test_what_is_no_label_is_refused_in_one_way(label: object, classes: list[str] | None, line: str) -> None:
    given = read_classes(None if classes is None else tuple(classes))
    with pytest.raises(SourceError, match=line):
        given.name(label, "here")


# Sources that can hold any label: each writes them, and gives the source that reads them.


def csv_table(here: Path, labels: list[object]) -> Source:
    rows = "".join(f'{row}.png,"{"" if label is None else label}"\n' for row, label in enumerate(labels))
    put(here / "t.csv", f"path,label\n{rows}".encode())
    return source("manifest", here / "t.csv")


def parquet_table(here: Path, labels: list[object]) -> Source:
    pq.write_table(pa.table({"path": ["1.png"] * len(labels), "label": labels}), here / "t.parquet")
    return source("manifest", here / "t.parquet")


def parquet(here: Path, labels: list[object]) -> Source:
    pq.write_table(pa.table({"image": [IMAGE] * len(labels), "label": labels}), here / "p.parquet")
    return source("parquet", here / "p.parquet")


def tars(here: Path, labels: list[object]) -> Source:
    members = [(f"{row}.png", IMAGE) for row in range(len(labels))]
    members += [(f"{row}.cls", str(label).encode()) for row, label in enumerate(labels) if label is not None]
    write_tar(here / "x.tar", sorted(members))
    return source("webdataset", here)


def tars_of_json(here: Path, labels: list[object]) -> Source:
    members = [(f"{row}.png", IMAGE) for row in range(len(labels))]
    members += [(f"{row}.json", json.dumps({"label": label}).encode()) for row, label in enumerate(labels)]
    write_tar(here / "x.tar", sorted(members))
    return source("webdataset", here, label_extension="json", label_key="label")


def arrays(here: Path, labels: list[object]) -> Source:
    np.savez(here / "a.npz", train_images=np.zeros((len(labels), 2, 2), np.uint8), train_labels=np.array(labels))
    return source("arrays", here / "a.npz")


HOLDERS = [csv_table, parquet_table, parquet, tars, tars_of_json, arrays]
NAN = float("nan")
COLUMNS: list[tuple[list[object], list[str | None]]] = [
    ([1.0, 2.0, NAN, 10.0], ["1", "2", None, "10"]),
    ([1, 2, -1, 10], ["1", "2", None, "10"]),
    (["1", "2.0", "nan", "NA"], ["1", "2", None, None]),
    ([" cat", "dog", "cat", ""], ["cat", "dog", "cat", None]),
    ([ACCENT, normalize("NFD", ACCENT), "tea", "None"], [ACCENT, ACCENT, "tea", None]),
    (["1", "2", "cat", "2"], ["1", "2", "cat", "2"]),
]


@pytest.mark.parametrize("hold", HOLDERS)
@pytest.mark.parametrize(("labels", "expected"), COLUMNS, ids=repr)
def test_the_same_labels_mean_the_same_in_every_source(
    labels: list[object], expected: list[str | None], hold: Callable[[Path, list[object]], Source], tmp_path: Path
) -> None:
    one = hold(tmp_path, labels)
    names, images = understood(one)
    assert [label for _, label in images] == expected
    assert names == in_order({name for name in expected if name})
    assert one.counts(RAW) == {("train", name): expected.count(name) for name in expected}


@pytest.mark.parametrize("hold", HOLDERS)
def test_conventions_that_were_followed_are_told_with_counts(
    hold: Callable[[Path, list[object]], Source], tmp_path: Path
) -> None:
    one = hold(tmp_path, ["1.0", "nan", "nan", " 2", "3"])
    one.class_names(RAW)
    lines = one.notes.lines()
    assert any(line.startswith("2 labels 'nan', which stands for none, e.g. ") for line in lines), lines
    assert any(line.startswith("1 labels that are whole numbers, written as decimals, e.g. ") for line in lines), lines


def test_a_number_is_a_name_where_names_are_numbers_and_that_is_told(tmp_path: Path) -> None:
    put(tmp_path / "t.csv", b"path,label\na,3\nb,5\nc,3\n")
    one = source("manifest", tmp_path / "t.csv", classes=["3", "5", "7"])
    assert understood(one) == (("3", "5", "7"), [("train", "3"), ("train", "5"), ("train", "3")])
    assert one.notes.lines()[0].startswith("3 labels that are numbers, read as names of `classes`")


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["7/1.png", "007/1.png"], "the classes '007' and '7', which are one number; write it in one way"),
        (
            ["-1/1.png", "a/1.png"],
            "only one class, 'a'; .* labels such as -1, nan and None stand for none: if one is a",
        ),
        (["0.5/1.png", "1.5/1.png"], "0.5: label 0.5, a fraction; .* name the class in `classes`"),
    ],
)
def test_class_folders_are_read_as_labels_are(names: list[str], line: str, tmp_path: Path) -> None:
    one = folder(tmp_path, *names)
    with pytest.raises(SourceError, match=line):
        understood(one)
    given = sorted({name.partition("/")[0] for name in names})
    named = source("folder", tmp_path, classes=given)
    if "7" not in given:
        assert understood(named)[0] == tuple(given)


def test_classes_that_look_alike_are_told(tmp_path: Path) -> None:
    one = folder(tmp_path, "Cat/1.png", "cat/1.png", "big_dog/1.png", "big dog/1.png")
    assert len(one.class_names(RAW)) == 4
    assert one.notes.lines() == [
        "2 classes whose names differ in capitals, blanks or `_` alone, e.g. 'big dog and big_dog'"
    ]


# One order of classes.

NUMBERS = [str(number) for number in (0, 1, 2, 9, 10, 11)]


def as_folder(here: Path, labels: list[str]) -> dict[str, Any]:
    for row, label in enumerate(labels):
        put(here / label / f"{row}.png", image_file(row))
    return {"kind": "folder", "path": str(here)}


def as_csv(here: Path, labels: list[str]) -> dict[str, Any]:
    as_folder(here / "images", labels)
    rows = [f"images/{label}/{row}.png\t{label}\n" for row, label in enumerate(labels)]
    put(here / "t.tsv", f"path\tlabel\n{''.join(reversed(rows))}".encode())
    return {"kind": "manifest", "path": str(here / "t.tsv")}


def as_parquet_table(here: Path, labels: list[str]) -> dict[str, Any]:
    as_folder(here, labels)
    paths = [f"{label}/{row}.png" for row, label in enumerate(labels)]
    pq.write_table(pa.table({"path": paths, "label": [float(label) for label in labels]}), here / "t.parquet")
    return {"kind": "manifest", "path": str(here / "t.parquet")}


def as_tars(here: Path, labels: list[str]) -> dict[str, Any]:
    members = [(f"{row}.{ext}", content) for row, label in enumerate(labels)
               for ext, content in (("png", image_file(row)), ("cls", f"{label}\n".encode()))]  # fmt: skip
    write_tar(here / "x.tar", members)
    return {"kind": "webdataset", "path": str(here)}


def as_parquet(here: Path, labels: list[str]) -> dict[str, Any]:
    here.mkdir()
    images = [image_file(row) for row in range(len(labels))]
    pq.write_table(pa.table({"image": images, "label": [int(label) for label in labels]}), here / "x.parquet")
    return {"kind": "parquet", "path": str(here)}


def as_arrays(here: Path, labels: list[str]) -> dict[str, Any]:
    here.mkdir()
    images = np.stack([decode(image_file(row), 3) for row in range(len(labels))])
    np.savez(here / "a.npz", train_images=images, train_labels=np.array([int(label) for label in labels]))
    return {"kind": "arrays", "path": str(here / "a.npz"), "layout": "nchw"}


LAYOUTS = [as_folder, as_csv, as_parquet_table, as_tars, as_parquet, as_arrays]


def run(here: Path, row: dict[str, Any], **settings: Any) -> Path:
    """Runs `prepare` and returns the data set's folder."""
    section = small_params()["prepare"] | {"source": row, **settings}
    here.mkdir(parents=True, exist_ok=True)
    prepare.main(write_params(here, {"prepare": section}), here / "raw", here / "out", here / "work")
    return here / "out"


def test_the_same_images_in_classes_of_numbers_are_the_same_data_set_from_any_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.core.scratch.code_fingerprint", lambda script: "code")
    labels = NUMBERS * 4
    found = {}
    for lay in LAYOUTS:
        out = run(
            tmp_path / lay.__name__, lay(tmp_path / f"raw-{lay.__name__}", labels), test_fraction=0.3, val_fraction=0.3
        )
        assert ImageDataset(out).manifest.class_names == NUMBERS
        files = {str(path.relative_to(out)): path for path in out.rglob("*") if ".zarr" in str(path)}
        found[lay.__name__] = {name: path.read_bytes() for name, path in files.items() if path.is_file()}
    first = found["as_folder"]
    assert len(first) > 10
    assert all(files == first for files in found.values())


def test_idx_files_number_classes_as_all_sources_do(tmp_path: Path) -> None:
    put(tmp_path / "train-images-idx3-ubyte", idx(np.zeros((3, 2, 2), np.uint8)))
    put(tmp_path / "train-labels-idx1-ubyte", idx(np.array([10, 2, 1], np.uint8)))
    assert source("idx", tmp_path).class_names(RAW) == ("1", "2", "10")


# Parquet files that name their classes.


def named_parquet(path: Path, labels: list[Any], names: list[str] | None) -> None:
    table = pa.table({"image": [IMAGE] * len(labels), "label": labels})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)


def test_each_parquet_file_is_read_by_its_own_names(tmp_path: Path) -> None:
    named_parquet(tmp_path / "0.parquet", [0, 1], ["dog", "cat"])
    named_parquet(tmp_path / "1.parquet", [0, 1, 2], ["cat", "dog", "emu"])
    named_parquet(tmp_path / "2.parquet", ["emu", "cat"], None)
    one = source("parquet", tmp_path)
    names, images = understood(one)
    assert names == ("cat", "dog", "emu")
    assert [label for _, label in images] == ["dog", "cat", "cat", "dog", "emu", "emu", "cat"]
    assert one.notes.lines() == ["2 lists of class names in the files: each file is read by its own, e.g. '1.parquet'"]


def test_a_table_in_parquet_is_read_by_its_own_names_too(tmp_path: Path) -> None:
    table = pa.table({"path": ["1.png", "2.png"], "label": [1, 0]})
    features = {"label": {"names": ["zebra", "ant"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "t.parquet")
    one = source("manifest", tmp_path / "t.parquet")
    assert understood(one) == (("zebra", "ant"), [("train", "ant"), ("train", "zebra")])


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["cat", "dog"], ["dog", "cat"]),  # the files' numbers, in another order of classes
        (["Hund", "Katze"], ["Hund", "Katze"]),  # other names in the place of the files'
    ],
)
def test_classes_give_the_order_or_other_names(classes: list[str], expected: list[str], tmp_path: Path) -> None:
    named_parquet(tmp_path / "0.parquet", [0, 1], ["dog", "cat"])
    names, images = understood(source("parquet", tmp_path, classes=classes))
    assert list(names) == classes
    assert [label for _, label in images] == expected


NAMED: list[tuple[list[str] | None, list[str] | None, list[str] | None, str]] = [
    (["dog", "cat"], None, None, "1.parquet: numbers without class names, which 0.parquet has in its metadata; set"),
    (["dog", "emu"], None, ["cat", "dog"], "0.parquet: class 'emu' in its metadata, which `classes` lacks"),
    (
        ["dog", "cat"],
        ["cat", "dog"],
        ["a", "b"],
        "`classes` has none of the names in the files' metadata .dog, cat.; give",
    ),
    (["dog", "cat"], None, ["a", "b", "c"], "`classes` has none of the names in the files' metadata"),
    (["dog", "dog"], None, None, "0.parquet: the class 'dog' twice"),
]


@pytest.mark.parametrize(("first", "second", "classes", "line"), NAMED)
def test_numbers_in_parquet_that_nobody_can_read_are_refused(
    first: list[str], second: list[str] | None, classes: list[str] | None, line: str, tmp_path: Path
) -> None:
    named_parquet(tmp_path / "0.parquet", [0, 1], first)
    named_parquet(tmp_path / "1.parquet", [0, 1], second)
    with pytest.raises(SourceError, match=line):
        understood(source("parquet", tmp_path, classes=classes))


# Splits.


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(
            (name, "train")
            for name in ("train", "Training", "TRAIN", "training_set", "seg_train", "train2017", "trainval")
        ),
        *((name, "val") for name in ("val", "valid", "Validation", "val_images", "dev", "imagenet-val")),
        *((name, "test") for name in ("test", "Testing", "test_set", "TestSet", "testset", "t10k", "test_data")),
    ],
)
def test_a_split_is_known_in_any_usual_form(name: str, split: str, tmp_path: Path) -> None:
    assert split_named(name, "here") == split
    other = "train" if split != "train" else "test"
    one = folder(tmp_path, *(f"{top}/{label}/1.png" for top in (name, other) for label in "ab"))
    assert one.class_names(RAW) == ("a", "b")
    assert {found for found, _ in understood(one)[1]} == {split, other}


@pytest.mark.parametrize("name", ["trainer", "contest", "latest", "tset", "evaluation_of_devils", "train_val", ""])
def test_another_word_is_no_split(name: str) -> None:
    with pytest.raises(SourceError, match="here: unknown split name"):
        split_named(name, "here")


def both(*tops: str) -> list[str]:
    return [f"{top}/{label}/1.png" for top in tops for label in "ab"]


SPLITS_OF: dict[str, tuple[list[str], dict[str, object], dict[str, int]]] = {
    "of a public set": ([*both("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred/1.png"], {}, {"train": 2, "test": 2}),
    "behind one folder": (both("pets/Training", "pets/Testing"), {}, {"train": 2, "test": 2}),
    "a class called train": (["bus/1.png", "car/1.png", "train/1.png"], {}, {"train": 3}),
    "a class with a split's word": (["beaker/x/1.png", "test_tube/y/1.png"], {}, {"train": 2}),
    "classes by the setting": (["car/x/1.png", "train/x/1.png"], {"layout": "classes"}, {"train": 2}),
    "folds by the setting": (both("one", "two"), {"layout": "classes"}, {"train": 4}),
    "with a folder left out": ([*both("train", "test"), "extra/1.png"], {"leave_out": ["extra"]}, {"train": 2, "test": 2}),
}  # fmt: skip


@pytest.mark.parametrize("case", SPLITS_OF)
def test_folders_are_splits_or_classes(case: str, tmp_path: Path) -> None:
    names, settings, expected = SPLITS_OF[case]
    images = understood(folder(tmp_path, *names, **settings))[1]
    assert {split: [one for one, _ in images].count(split) for split, _ in images} == expected


DOUBTFUL: dict[str, tuple[list[str], list[str]]] = {
    "a split misspelt": (both("train", "tset"), ["'train' names a split, and 'tset' does not", "did you mean 'test'?", "layout: classes"]),
    "splits beside others": (both("Training", "Testing", "extra"), ["'Testing' names a split, and 'extra' does not", "move 'extra'"]),
    "folds": (both("fold1", "fold2"), ["'fold1' and 'fold2' hold folders of the same names: a, b", "set `path` to one of them, or `layout: classes`"]),
    "sites with one folder in between": (both("amazon/images", "dslr/images"), ["same names: a, b"]),
    "splits below classes": (
        ["cat/train/1.png", "cat/test/1.png", "dog/train/1.png", "dog/test/1.png"],
        ["'cat' and 'dog' hold folders of the same names: test, train", "move them to test/cat", "layout: classes"],
    ),
    "masks beside images": (
        ["a/images/1.png", "a/masks/1.png", "b/images/1.png", "b/masks/1.png"],
        ["same names: images, masks", "leave_out: [masks]"],
    ),
    "a split twice": (both("val", "valid", "train"), ["two folders of the split 'val': 'val' and 'valid'"]),
    "loose images in test": (
        [*both("train"), *(f"test/{number}.png" for number in range(40))],
        ["an image outside of every class folder; without labels nothing is measured: move 'test' away", "train/_unlabelled"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DOUBTFUL)
def test_folders_in_doubt_are_refused_in_a_line_with_a_fix(case: str, tmp_path: Path) -> None:
    names, parts = DOUBTFUL[case]
    line = refused(folder(tmp_path, *names))
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("case", "fix"),
    [
        ("a split misspelt", lambda here: (here / "tset").rename(here / "test")),
        ("splits below classes", None),
        ("masks beside images", {"leave_out": ["masks"]}),
        ("folds", {"layout": "classes"}),
        ("loose images in test", lambda here: (here / "test").rename(here / "train/_unlabelled")),
    ],
)
def test_the_fix_in_the_line_works(case: str, fix: Any, tmp_path: Path) -> None:
    one = folder(tmp_path, *DOUBTFUL[case][0])
    refused(one)
    if callable(fix):
        fix(tmp_path)
    settings = {"layout": "classes"} if fix is None else fix if isinstance(fix, dict) else {}
    assert len(understood(source("folder", tmp_path, **settings))[0]) == 2


@pytest.mark.parametrize("names", [("x-training.tar", "x-testing.tar"), ("TrainSet/1.tar", "TestSet/1.tar")])
def test_files_name_splits_as_folders_do(names: tuple[str, str], tmp_path: Path) -> None:
    for name in names:
        write_tar(tmp_path / name, [("1.png", IMAGE), ("1.cls", b"a"), ("2.png", IMAGE), ("2.cls", b"b")])
    assert {split for split, _ in understood(source("webdataset", tmp_path))[1]} == {"train", "test"}


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_column_of_splits_that_nobody_named_is_told(name: str, tmp_path: Path) -> None:
    columns = {"path": ["1.png", "2.png"], "label": ["a", "b"], "Split": ["train", "test"]}
    if name == "t.csv":
        put(tmp_path / name, "\n".join(map(",".join, [list(columns), *zip(*columns.values(), strict=True)])).encode())
    else:
        pq.write_table(pa.table(columns), tmp_path / name)
    one = source("manifest", tmp_path / name)
    assert understood(one)[1] == [("train", "a"), ("train", "b")]
    assert one.notes.lines() == [
        "2 images are all for training, though a column may name splits (set `split_column`), e.g. 'Split'"
    ]


# Names of one form.


def test_a_name_typed_in_two_ways_is_one_class_and_its_images_are_found(tmp_path: Path) -> None:
    nfc, nfd = ACCENT, normalize("NFD", ACCENT)
    one = folder(tmp_path / nfd, f"{nfc}/1.png", f"{nfd}/2.png", "tea/3.png")
    assert understood(one) == ((nfc, "tea"), [("train", nfc)] * 2 + [("train", "tea")])
    # The same paths, each typed the other way.
    put(tmp_path / "t.csv", f"path,label\n{nfd}/1.png,{nfd}\n{nfc}/2.png,{nfc}\ntea/3.png,tea\n".encode())
    table = source("manifest", tmp_path / "t.csv", root=str(tmp_path / nfc))
    images = all_of(table)
    assert [Path(image.content).is_file() for image in images] == [True] * 3  # type: ignore[arg-type]
    assert table.class_names(RAW) == (nfc, "tea")
    assert understood(source("folder", tmp_path / nfc))[0] == (nfc, "tea")


def test_a_teachers_names_are_compared_in_one_form() -> None:
    assert match_classes([ACCENT, "tea"], ["tea", normalize("NFD", ACCENT)], None, 2, "x") == [[1], [0]]


def test_logits_name_images_in_either_form(tmp_path: Path) -> None:
    keys = [f"{normalize('NFD', ACCENT)}/1.png", "tea/2.png"]
    lines = [f"{number:016x}\ttrain\tx\t{key}\n" for number, key in enumerate(keys, 1)]
    put(tmp_path / "samples.tsv", "".join(["sample_id\tsplit\tclass\tkey\n", *lines]).encode())
    put(tmp_path / "ids.txt", f"tea/2.png\n{ACCENT}/1.png\n".encode())
    np.save(tmp_path / "logits.npy", np.eye(2, dtype=np.float32))
    ids = str(tmp_path / "ids.txt")
    imported = read_logits(tmp_path / "logits.npy", ids, tmp_path / "samples.tsv", are_probabilities=False)
    assert imported.sample_ids.tolist() == [2, 1]


# Labels in tars.

TARS: dict[str, tuple[dict[str, bytes], dict[str, object], str]] = {
    "JSON without a key": (
        {"1.png": IMAGE, "1.json": b'{"id": 7, "breed": "cat"}'},
        {"label_extension": "json"},
        r"""x.tar:1.json: JSON, which begins '\{"id": 7, "breed": "cat"\}'; set `label_key` in .* to one of: id, breed""",
    ),
    "JSON in .cls": ({"1.png": IMAGE, "1.cls": b'{"breed": "cat"}'}, {}, "set `label_key` .* to one of: breed"),
    "another extension": ({"1.png": IMAGE, "1.json": b"{}"}, {}, "no sample has a label, .* set `label_extension` to one of: json"),
    "no labels": ({"1.png": IMAGE}, {}, "no sample has a label, a member that ends in .cls; add one to each sample"),
    "dots in names": (
        {f"v1.2_{row:05}.{ext}": IMAGE for row in range(3000) for ext in ("png", "cls")},
        {},
        "x.tar:v1: 0 images among 2_00000.png, .* .6,000 in all.; .* set `name_ends: last dot`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TARS)
def test_labels_in_tars_that_are_not_found_are_one_short_line(case: str, tmp_path: Path) -> None:
    members, settings, line = TARS[case]
    write_tar(tmp_path / "x.tar", members.items())
    assert re.search(line, found := refused(source("webdataset", tmp_path, **settings))), found


def test_the_fixes_for_tars_work(tmp_path: Path) -> None:
    members = [(f"v1.{row}.{ext}", c) for row, label in enumerate((b"a", b"b"))
               for ext, c in (("png", IMAGE), ("cls", label), ("json", b'{"breed": "%s"}' % label))]  # fmt: skip
    write_tar(tmp_path / "x.tar", members)
    for settings in ({}, {"label_extension": "json", "label_key": "breed"}):
        one = source("webdataset", tmp_path, name_ends="last dot", **settings)
        assert understood(one) == (("a", "b"), [("train", "a"), ("train", "b")])
        assert [image.key for image in all_of(one)] == ["x.tar:v1.0", "x.tar:v1.1"]


def test_json_that_is_a_plain_label_needs_no_key(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [("1.png", IMAGE), ("1.json", b'"cat"'), ("2.png", IMAGE), ("2.json", b"7")])
    assert understood(source("webdataset", tmp_path, label_extension="json"))[0] == ("7", "cat")


# Classes of too few images.


@pytest.mark.parametrize("lay", LAYOUTS)
def test_classes_of_too_few_images_are_refused_all_at_once_before_any_is_decoded(
    lay: Callable[[Path, list[str]], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.decoding.decode", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr("pipeline.preparation.make.decode", lambda *_: pytest.fail("decoded"))
    row = lay(tmp_path / "raw", ["0"] * 7 + ["1"] * 6 + ["2"] + ["3"] * 8)
    with pytest.raises(DataError) as error:
        run(tmp_path / "project", row)
    line = str(error.value)
    assert "2 of 4 classes have too few training images" in line
    assert "'1' (6), '2' (1); expected 7 or more" in line
    assert len(f"error: {line}") <= 300


@pytest.mark.parametrize(("labels", "passed_over"), [("dense8", True), ("top2", False)])
def test_an_encoding_that_two_classes_do_not_fit_is_passed_over_where_no_student_names_it(
    labels: str, passed_over: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = small_params()
    params["students"]["small"].update(labels=labels)
    path = write_params(tmp_path, params)
    space = LabelSpace(2, 1.0, (1.0,))
    if passed_over:
        assert list(fitting_encodings(read_encodings(path), space, path)) == ["dense16", "dense8", "none"]
        said = capsys.readouterr().err
        assert "encodings.top2.k: 2; expected at most 1 for 2 classes" in said
        assert said.endswith("; no student names this row, so it is passed over\n")
    else:
        with pytest.raises(ConfigError, match=r"encodings\.top2\.k: 2; expected at most 1 for 2 classes"):
            fitting_encodings(read_encodings(path), space, path)


def test_as_many_images_as_the_line_asks_for_are_enough(tmp_path: Path) -> None:
    row = as_folder(tmp_path / "raw", ["0"] * 7 + ["1"] * 7)
    assert ImageDataset(run(tmp_path / "project", row)).manifest.num_samples == {"train": 10, "val": 2, "test": 2}


def test_a_class_that_the_test_split_lacks_in_training_is_told_with_all_others(tmp_path: Path) -> None:
    line = refused(folder(tmp_path, *both("train"), *(f"test/{label}/1.png" for label in "abcd")))
    assert "classes c, d are in 'test' but not in 'train'; add training images" in line
