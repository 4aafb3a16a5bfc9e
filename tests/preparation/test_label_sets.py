"""Sets of independent classes: one reading for every layout, and one line where one is wrong."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import image_file, source, write_tar

from pipeline.core.errors import ConfigError, SourceError
from pipeline.data.decoding import decode
from pipeline.preparation.numbering import Numbering
from pipeline.preparation.sources.base import Source
from pipeline.preparation.sources.label_sets import LabelSet, LabelSets
from pipeline.preparation.sources.labels import Classes, read_classes

RAW = Path("raw")


def one_of(*yes: str, no: tuple[str, ...] | None = None) -> LabelSet:
    return LabelSet(frozenset(yes), None if no is None else frozenset(no))


READ: list[tuple[object, str | None, list[str] | None, LabelSet | None]] = [
    ("cat|dog", "|", None, one_of("cat", "dog")),
    (" dog | cat ", "|", None, one_of("cat", "dog")),
    ("cat", "|", None, one_of("cat")),
    ("cat|cat", "|", None, one_of("cat")),
    ("cat|dog|", "|", None, one_of("cat", "dog")),
    ("haze  primary", " ", None, one_of("haze", "primary")),
    ("a, b", ",", None, one_of("a", "b")),
    ("", "|", None, one_of()),
    ("  ", "|", None, one_of()),
    ("NA", "|", None, None),
    ("-1", "|", None, None),
    (float("nan"), "|", None, None),
    (None, "|", None, None),
    ("NA", "|", ["NA", "EU"], one_of("NA")),
    ("0|2", "|", ["cat", "dog", "fox"], one_of("cat", "fox")),
    (["cat", "dog"], None, None, one_of("cat", "dog")),
    ([2, 0], None, ["cat", "dog", "fox"], one_of("cat", "fox")),
    ([], None, None, one_of()),
    (None, None, None, None),
    ({"cat": 1, "dog": 0, "fox": None}, None, None, one_of("cat", no=("dog",))),
    ({"cat": True, "dog": False}, None, None, one_of("cat", no=("dog",))),
    ({"cat": "yes", "dog": "No", "fox": "TRUE", "cow": "false"}, None, None, one_of("cat", "fox", no=("dog", "cow"))),
    ({"cat": "1", "dog": "0.0", "fox": "", "cow": "-1"}, None, None, one_of("cat", no=("dog",))),
    ({"cat": 1.0, "dog": -1.0, "fox": float("nan")}, None, None, one_of("cat", no=())),
    ({"cat": -1, "dog": None}, None, None, None),
]


@pytest.mark.parametrize(("label", "separator", "classes", "found"), READ, ids=[repr(row[:3]) for row in READ])
def test_a_set_is_read_in_one_way(
    label: object, separator: str | None, classes: list[str] | None, found: LabelSet | None
) -> None:
    given = read_classes(None if classes is None else tuple(classes))
    assert LabelSets(given, separator).name(label, "here") == found


UNREAD: list[tuple[object, str | None, str]] = [
    ("cat|cow", "|", "here: label 'cow', which is no class; expected one of: cat, dog"),
    (["cat", None], None, "here: None among the names of its classes; expected names"),
    ([0, -1], None, "here: -1 among the names of its classes"),
    ([0, 2], None, "here: label 2 is out of range; expected 0 to 1"),
    ({"cow": 1}, None, "here: label 'cow', which is no class"),
    ({"cat": 0.5}, None, r"here: entry 0\.5 of class 'cat'; expected 1 \(yes\), 0 \(no\), or -1 or nothing"),
    ({"cat": "maybe"}, None, "here: entry 'maybe' of class 'cat'"),
    ({"cat": 2}, None, "here: entry 2 of class 'cat'"),
    ({"cat": [1]}, None, r"here: entry \[1\] of class 'cat'"),
    ({"cat": 1, " cat": 0}, None, "here: two entries for one class"),
    ("cat", None, "here: label 'cat'; expected a list of names; or set `separator`"),
    (["cat"], "|", r"here: a list of names; expected a text with '\|'; leave `separator` out"),
    ("['cat', 'dog']", ",", r"here: a list that is written out, .*; expected names alone, with ',' between them"),
    (b"\xff", "|", r"here: not text \(b'\\xff'\)"),
]


@pytest.mark.parametrize(("label", "separator", "line"), UNREAD, ids=repr)
def test_what_is_no_set_is_refused_in_one_line(label: object, separator: str | None, line: str) -> None:
    with pytest.raises(SourceError, match=line) as error:
        LabelSets(Classes(("cat", "dog")), separator).name(label, "here")
    assert len(str(error.value)) <= 300


# The same images in every layout.

NAMES = ("ant", "bee", "cat")
TRUTH = [(1, 0, 1), (0, 0, 0), (0, 1, 0), (-1, -1, -1), (1, 1, 1), (0, 1, 1), (1, 0, 0), (0, 0, 1)]
UNKNOWN = [*TRUTH[:-1], (0, -1, 1)]  # what entries can say, and lists can't
CONTENT = [image_file(seed) for seed in range(len(TRUTH))]
Rows = list[tuple[int, int, int]]


def joined(row: tuple[int, ...]) -> str:
    return "NA" if row[0] == -1 else "|".join(names_of(row) or [])


def names_of(row: tuple[int, ...]) -> list[str] | None:
    return None if row[0] == -1 else [name for name, entry in zip(NAMES, row, strict=True) if entry == 1]


def files_in(here: Path) -> list[str]:
    for number, content in enumerate(CONTENT):
        (here / f"{number}.png").write_bytes(content)
    return [f"{number}.png" for number in range(len(CONTENT))]


def text_table(here: Path, columns: dict[str, list[Any]], suffix: str = "csv", **settings: Any) -> Source:
    with (here / f"t.{suffix}").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if suffix == "tsv" else ",")
        writer.writerow(["path", *columns])
        writer.writerows(zip(files_in(here), *columns.values(), strict=True))
    return source("manifest", here / f"t.{suffix}", **settings)


def parquet_table(here: Path, columns: dict[str, Any], **settings: Any) -> Source:
    pq.write_table(pa.table({"path": files_in(here), **columns}), here / "t.parquet", row_group_size=3)
    return source("manifest", here / "t.parquet", **settings)


def parquet(here: Path, columns: dict[str, Any], features: dict[str, Any] | None = None, **settings: Any) -> Source:
    table = pa.table({"image": pa.array(CONTENT, pa.binary()), **columns})
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, here / "train.parquet")
    return source("parquet", here, **settings)


def by_column(rows: Rows, value: Callable[[int], Any] = int) -> dict[str, list[Any]]:
    return {name: [value(row[number]) for row in rows] for number, name in enumerate(NAMES)}


def arrays(here: Path, labels: np.ndarray, **settings: Any) -> Source:
    images = np.stack([decode(content, 3) for content in CONTENT])
    np.savez(here / "a.npz", train_images=images.transpose(0, 2, 3, 1), train_labels=labels)
    return source("arrays", here / "a.npz", **settings)


def tars(here: Path, labels: list[bytes | None], extension: str, **settings: Any) -> Source:
    members = []
    for number, (content, label) in enumerate(zip(CONTENT, labels, strict=True)):
        members.append((f"{number}.png", content))
        members += [] if label is None else [(f"{number}.{extension}", label)]
    write_tar(here / "train-0.tar", members)
    return source("webdataset", here, label_extension=extension, **settings)


def as_json(label: object, key: str = "tags") -> bytes:
    return json.dumps({key: label}).encode()


def bool_or_none(entry: int) -> bool | None:
    return None if entry == -1 else entry == 1


FEATURES = {"label": {"feature": {"names": list(NAMES), "_type": "ClassLabel"}, "_type": "Sequence"}}
LAYOUTS: dict[str, tuple[Rows, Callable[[Path], Source]]] = {
    "csv": (TRUTH, lambda here: text_table(here, {"label": list(map(joined, TRUTH))}, separator="|")),
    "tsv": (
        TRUTH,
        lambda here: text_table(here, {"tags": list(map(joined, TRUTH))}, "tsv", label_column="tags", separator="|"),
    ),
    "csv, columns": (UNKNOWN, lambda here: text_table(here, by_column(UNKNOWN), label_columns=list(NAMES))),
    "csv, columns of words": (
        UNKNOWN,
        lambda here: text_table(
            here, by_column(UNKNOWN, {1: "yes", 0: "no", -1: ""}.__getitem__), label_columns=list(NAMES)
        ),
    ),
    "parquet table, lists": (TRUTH, lambda here: parquet_table(here, {"label": list(map(names_of, TRUTH))})),
    "parquet table, columns": (
        UNKNOWN,
        lambda here: parquet_table(here, by_column(UNKNOWN, bool_or_none), label_columns=list(NAMES)),
    ),
    "parquet, lists": (TRUTH, lambda here: parquet(here, {"label": list(map(names_of, TRUTH))})),
    "parquet, lists of numbers": (
        TRUTH,
        lambda here: parquet(
            here,
            {"label": [None if n is None else [NAMES.index(e) for e in n] for n in map(names_of, TRUTH)]},
            FEATURES,
        ),
    ),
    "parquet, text": (TRUTH, lambda here: parquet(here, {"label": list(map(joined, TRUTH))}, separator="|")),
    "parquet, columns": (
        UNKNOWN,
        lambda here: parquet(here, by_column(UNKNOWN, lambda entry: float(entry)), label_columns=list(NAMES)),
    ),
    "arrays": (UNKNOWN, lambda here: arrays(here, np.array(UNKNOWN), classes=list(NAMES))),
    "arrays, float": (
        UNKNOWN,
        lambda here: arrays(here, np.where(np.array(UNKNOWN) == -1, np.nan, UNKNOWN), classes=list(NAMES)),
    ),
    "webdataset, lists": (
        TRUTH,
        lambda here: tars(here, [as_json(names_of(row)) for row in TRUTH], "json", label_key="tags"),
    ),
    "webdataset, bare lists": (
        TRUTH,
        lambda here: tars(
            here, [None if row[0] == -1 else json.dumps(names_of(row)).encode() for row in TRUTH], "json"
        ),
    ),
    "webdataset, maps": (
        UNKNOWN,
        lambda here: tars(
            here,
            [as_json(dict(zip(NAMES, map(bool_or_none, row), strict=True))) for row in UNKNOWN],
            "json",
            label_key="tags",
        ),
    ),
    "webdataset, text": (
        TRUTH,
        lambda here: tars(here, [joined(row).encode() for row in TRUTH], "cls", separator="|"),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_same_sets(tmp_path: Path, layout: str) -> None:
    truth, make = LAYOUTS[layout]
    one = make(tmp_path)
    assert one.signal == "binary"
    assert one.class_names(RAW) == NAMES
    images = list(one.images(RAW))
    found = Numbering(NAMES, "binary").array([image.label for image in images])
    np.testing.assert_array_equal(found, np.array(truth, np.int8))
    assert (one.count(RAW), one.split_sizes(RAW)) == (8, {"train": 8})
    positive = {("train", name): sum(row[number] == 1 for row in truth) for number, name in enumerate(NAMES)}
    assert one.counts(RAW) == {**positive, ("train", None): 1}
    assert [image.label for image in one.images(RAW, 5)] == [image.label for image in images[5:]]


def test_a_matrix_without_names_has_numbered_classes(tmp_path: Path) -> None:
    one = arrays(tmp_path, np.array(TRUTH[:3] * 2 + TRUTH[4:6], bool))
    assert one.class_names(RAW) == ("0", "1", "2")
    assert [image.label for image in one.images(RAW)][2] == one_of("1", no=("0", "2"))


@pytest.mark.parametrize(
    "make",
    [
        lambda here, column: text_table(here, {"sick": column}, label_columns=["sick"]),
        lambda here, column: parquet(here, {"sick": column}, label_columns=["sick"]),
        lambda here, column: arrays(here, np.array(column), classes=["sick"]),
        lambda here, column: arrays(here, np.array(column)[:, None], classes=["sick"]),
    ],
)
def test_one_class_is_yes_or_no(tmp_path: Path, make: Callable[[Path, list[int]], Source]) -> None:
    one = make(tmp_path, [0, 1, 1, -1, 0, 0, 1, 0])
    assert (one.class_names(RAW), one.signal) == (("sick",), "binary")
    found = Numbering(("sick",), "binary").array([image.label for image in one.images(RAW)])
    assert found.ravel().tolist() == [0, 1, 1, -1, 0, 0, 1, 0]


def test_one_column_of_numbers_is_one_class_of_several_as_ever(tmp_path: Path) -> None:
    one = arrays(tmp_path, np.array([0, 1] * 4)[:, None])
    assert (one.class_names(RAW), one.signal) == (("0", "1"), "categorical")
    assert [image.label for image in one.images(RAW)] == ["0", "1"] * 4


TAGS = {"label": ["ant|bee", "cat"] * 4}
REFUSED: dict[str, tuple[Callable[[Path], Source], str]] = {
    "unknown name": (
        lambda here: text_table(here, TAGS, separator="|", classes=["ant", "bee"]),
        r"t\.csv:3: label 'cat', which is no class; expected one of: ant, bee",
    ),
    "no such column": (
        lambda here: text_table(here, by_column(TRUTH), label_columns=["ant", "bea"]),
        r"t\.csv: no column 'bea'; expected one of: path, ant, bee, cat",
    ),
    "no such column in parquet": (
        lambda here: parquet(here, by_column(TRUTH), label_columns=["ant", "bea"]),
        r"no column 'bea'; expected one of: image, ant, bee, cat",
    ),
    "an entry between": (
        lambda here: text_table(here, {"ant": ["1", "0.5"] * 4}, label_columns=["ant"]),
        r"t\.csv:3: entry '0\.5' of class 'ant'; expected 1 \(yes\), 0 \(no\)",
    ),
    "an entry between in an array": (
        lambda here: arrays(here, np.array(TRUTH) * 0.5),
        r"a\.npz: train_labels: entry 0\.5; expected 1 \(yes\), 0 \(no\), or -1 or NaN \(unknown\)",
    ),
    "more columns than classes": (
        lambda here: arrays(here, np.array(TRUTH), classes=["ant", "bee"]),
        r"train_labels: 3 columns; expected 2, one for each class \('ant' to 'bee'\)",
    ),
    "names in a matrix": (
        lambda here: arrays(here, np.array([["a", "b"]] * 8)),
        r"train_labels: an array of \(8, 2\), <U1; expected a number for each image and class",
    ),
    "separator and columns": (
        lambda here: text_table(here, by_column(TRUTH), label_columns=list(NAMES), separator="|"),
        "label_columns: columns ant, bee, cat, and `separator`, which is for one column of names; expected one of the",
    ),
    "one column and several": (
        lambda here: text_table(here, by_column(TRUTH), label_columns=list(NAMES), label_column="ant"),
        "label_column: given beside `label_columns`; expected one of the two",
    ),
    "classes and columns": (
        lambda here: parquet(here, by_column(TRUTH), label_columns=list(NAMES), classes=["x", "y"]),
        "classes: given beside `label_columns`, which are the classes; leave it out",
    ),
    "a column twice": (
        lambda here: parquet(here, by_column(TRUTH), label_columns=["ant", "ant"]),
        "classes: the class 'ant' twice",
    ),
    "one class of several": (
        lambda here: text_table(here, {"label": ["ant", "bee"] * 4}, classes=["ant"]),
        "classes: 1 names; expected a name per class, at least two",
    ),
    "a separator for lists": (
        lambda here: parquet(here, {"label": [["ant"], ["bee"]] * 4}, separator="|"),
        r"a list of names; expected a text with '\|'",
    ),
    "a list after names": (
        lambda here: tars(here, [b'"ant"', b'["ant"]'] * 4, "json"),
        r"1: label \['ant'\] \(list\); expected one name or whole number",
    ),
    "a name after lists": (
        lambda here: tars(here, [b'["ant"]', b'"ant"'] * 4, "json"),
        "1: label 'ant'; expected a list of names",
    ),
    "nothing known": (
        lambda here: text_table(here, {"ant": [""] * 8}, label_columns=["ant"]),
        "no labelled training image",
    ),
    "nothing named": (
        lambda here: text_table(here, {"label": [""] * 8}, separator="|"),
        "no training image is of any class; expected at least one class",
    ),
    "only no": (
        lambda here: arrays(here, np.zeros((8, 3), np.uint8)),
        "no training image is of any class; expected at least one class",
    ),
}


def read_whole(one: Source) -> None:
    one.class_names(RAW)
    list(one.images(RAW))


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_sets_is_one_line(tmp_path: Path, case: str) -> None:
    make, line = REFUSED[case]
    with pytest.raises(SourceError, match=line) as error:
        read_whole(make(tmp_path))
    assert len(str(error.value)) <= 400


@pytest.mark.parametrize("settings", [{"separator": ""}, {"label_columns": []}])
def test_settings_that_are_empty_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        text_table(tmp_path, TAGS, **settings)


TOLD: list[tuple[dict[str, list[Any]], dict[str, Any], str]] = [
    ({"label": ["ant|bee", ""] * 4}, {"separator": "|"}, "4 labels that are empty, read as none of the classes"),
    ({"label": ["ant|bee", "NA"] * 4}, {"separator": "|"}, "4 labels 'NA', which stands for unlabelled"),
    ({"label": ["ant|ant", "bee"] * 4}, {"separator": "|"}, "4 labels that name a class twice"),
    ({"label": ["ant;bee", "bee"] * 4}, {"separator": "|"}, "8 images, of which none has more than one class"),
    ({"ant": [1, ""] * 4, "bee": [1, 0] * 4}, {"label_columns": ["ant", "bee"]}, "4 labels of which some entries are"),
    ({"ant": [1, ""] * 4}, {"label_columns": ["ant"]}, "4 labels without a known entry, read as unlabelled"),
]


ALONE: list[tuple[list[str], str]] = [
    (["ant|bee", "bee", "ant"], "1 class names made of others, with '|' between (set `separator` if"),
    (["['ant', 'bee']", "['bee']", "['ant']"], "1 class names made of others, with ',' between"),
    (["ant;bee", "bee;cat", "cat;ant"], "3 class names made of others, with ';' between"),
    (["tench, Tinca tinca", "crane", "crane, bird"], ""),
]


@pytest.mark.parametrize(("labels", "line"), ALONE)
def test_names_that_are_joined_are_told_where_a_label_is_one_class(
    tmp_path: Path, labels: list[str], line: str
) -> None:
    one = text_table(tmp_path, {"label": (labels * 3)[:8]})
    assert one.signal == "categorical"
    one.class_names(RAW)
    assert [each for each in one.notes.lines() if each.startswith(line)] == one.notes.lines()
    assert len(one.notes.lines()) == bool(line)


@pytest.mark.parametrize(("columns", "settings", "line"), TOLD, ids=repr)
def test_what_may_be_meant_otherwise_is_told_with_its_count(
    tmp_path: Path, columns: dict[str, list[Any]], settings: dict[str, Any], line: str
) -> None:
    one = text_table(tmp_path, columns, **settings)
    one.class_names(RAW)
    assert sum(each.startswith(line) for each in one.notes.lines()) == 1, one.notes.lines()


def test_a_class_of_no_training_image_is_told_and_an_unlabelled_test_image_is_refused(tmp_path: Path) -> None:
    parts = ["train"] * 6 + ["test"] * 2
    for last, told in (("ant|cat", None), ("NA", "1 unlabelled images in the split 'test'")):
        columns = {"label": ["ant|bee", "bee"] * 3 + ["bee", last], "part": parts}
        one = text_table(tmp_path, columns, separator="|", split_column="part")
        if told:
            with pytest.raises(SourceError, match=told):
                one.class_names(RAW)
        else:
            assert one.class_names(RAW) == NAMES
            assert "1 labels in 'test' of classes that no training image is of, e.g. 'cat'" in one.notes.lines()
