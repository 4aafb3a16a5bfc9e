"""Rows of a table: the code of every cell, the splits, and what is refused."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import small_params, write_params

from pipeline.core.errors import DataError, PipelineError, SourceError
from pipeline.data.dataset import ImageDataset
from pipeline.data.row_columns import MISSING, RARE, CategoryColumn, CellError, Columns, NumberColumn, number_of
from pipeline.preparation.rows import ColumnSurvey, TableSettings, bins_of
from stages import prepare

Table = Sequence[Sequence[object]]
HEADER = ("age", "city", "label")
NUMBERS = st.lists(st.floats(-1e6, 1e6).map(lambda number: round(number, 2) + 0.0), min_size=1, max_size=80)


def csv_of(folder: Path, rows: Table, header: Sequence[str] = HEADER, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")
    return path


def plain_rows(count: int = 60) -> list[list[object]]:
    return [[20 + number, "ABC"[number % 3], ("no", "yes")[number % 2]] for number in range(count)]


def prepared(folder: Path, path: Path, table: dict[str, Any] | None = None, **source: Any) -> ImageDataset:
    params = small_params()
    params["prepare"] |= {"source": {"kind": "rows", "path": str(path)} | source, "table": table}
    prepare.main(write_params(folder, params), folder / "raw", folder / "data", folder / "work")
    return ImageDataset(folder / "data")


def samples(folder: Path) -> dict[str, tuple[str, str]]:
    """Returns id and split of each row, by the number of its line."""
    lines = [line.split("\t") for line in (folder / "data/samples.tsv").read_text().splitlines()[1:]]
    return {key.rpartition(":")[2]: (sample_id, split) for sample_id, split, _, key in lines}


def survey(cells: Sequence[object], **given: Any) -> ColumnSurvey:
    found = ColumnSurvey("x", **given)
    for number, cell in enumerate(cells):
        found.add(cell, f"t.csv:{number}")
    return found


@given(NUMBERS, st.integers(2, 12), st.randoms(use_true_random=False))
def test_codes_of_numbers_ascend_and_do_not_depend_on_the_order_of_rows(
    numbers: list[float], bins: int, rng: random.Random
) -> None:
    column = survey(numbers).column(TableSettings(bins=bins))
    codes = [column.code(number) for number in sorted(numbers)]
    assert codes == sorted(codes)
    assert min(codes) == 1
    assert max(codes) == column.num_codes - 1
    assert column.num_codes - 1 <= bins
    rng.shuffle(numbers)
    assert survey(numbers).column(TableSettings(bins=bins)) == column
    for code in range(1, column.num_codes):  # a bin's value is in it
        assert column.code(column.to_dict()["values"][code - 1]) == code


@given(st.integers(1, 40), st.integers(2, 8))
def test_bins_are_about_equally_full(each: int, bins: int) -> None:
    values = np.arange(each * bins, dtype=float)
    _, edges = bins_of(values, np.ones(len(values), np.int64), bins)
    full = np.bincount(np.searchsorted(edges, values, side="right"), minlength=bins)
    assert full.tolist() == [each] * bins


def test_a_missing_cell_is_apart_and_an_unseen_name_is_rare() -> None:
    number, city = (
        survey([1, 2, 3]).column(TableSettings()),
        survey(["a", "b", "a"]).column(TableSettings(rare_below=2)),
    )
    for nothing in (None, "", " ", "NaN", "NA", "null", float("nan")):
        assert number.code(nothing) == city.code(nothing) == MISSING
    assert [number.code(cell) for cell in (-9e9, 1, "2", 2.9, 9e9)] == [1, 1, 2, 2, 3]
    assert isinstance(city, CategoryColumn)
    assert city.names == ["a"]
    assert [city.code(cell) for cell in ("b", "never seen", "a", " a ")] == [RARE, RARE, 2, 2]


def test_the_most_frequent_names_are_kept() -> None:
    found = survey(["a"] * 3 + ["b"] * 5 + ["c"] * 4).column(TableSettings(rare_below=1, most_names=2))
    assert isinstance(found, CategoryColumn)
    assert found.names == ["b", "c"]


def test_types_are_found() -> None:
    for cells, kind in (
        (["1", "2.5", "-3e2", ""], "number"),
        ([1, 2.5, None], "number"),
        (["1", "b", "c"], "category"),
        ([True, False], "category"),
        (["2026-11-27"], "category"),
    ):
        assert survey(cells).type == kind


def test_columns_come_back_from_what_the_manifest_states() -> None:
    columns = Columns([NumberColumn("n", [1.5], [1.0, 2.0]), CategoryColumn("c", ["a", "b"])])
    facts = json.loads(json.dumps(columns.facts()))
    assert Columns.of_facts(facts).facts() == facts
    assert [Columns.of_facts(facts).columns[0].text(code) for code in range(3)] == [
        "missing",
        "below 1.5",
        "1.5 or more",
    ]
    assert [columns.columns[1].text(code) for code in range(4)] == ["missing", "rare or unknown", "a", "b"]


@pytest.mark.parametrize("cell", ["x", "1,5", "1_000", "0x10", [1], b"1", "--1"], ids=str)
def test_what_is_no_number_is_refused(cell: object) -> None:
    with pytest.raises(CellError, match="is no number"):
        number_of(cell)


@pytest.mark.parametrize("cell", ["inf", "-Infinity", float("inf"), "1e999"], ids=str)
def test_what_is_infinite_is_refused(cell: object) -> None:
    with pytest.raises(CellError, match="is infinite"):
        number_of(cell)


def test_files_of_every_kind_give_the_same_samples(tmp_path: Path) -> None:
    rows = plain_rows()
    found = []
    for name in ("csv", "tsv", "jsonl", "parquet"):
        (folder := tmp_path / name).mkdir()
        path = folder / f"t.{name}"
        if name == "parquet":
            columns = dict(zip(HEADER, map(list, zip(*rows, strict=True)), strict=True))
            pq.write_table(pa.table(columns), path)
        elif name == "jsonl":
            path.write_text("".join(json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in rows))
        else:
            csv_of(folder, rows, name=path.name)
            path.write_text(path.read_text().replace(",", "\t") if name == "tsv" else path.read_text())
        data = prepared(folder, path, classes=["no", "yes"])
        found.append((data.manifest.fingerprints, data.manifest.input))
    assert all(each == found[0] for each in found)
    assert [column["type"] for column in found[0][1]["columns"]] == ["number", "category"]  # type: ignore[index]


def test_an_id_is_of_content_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows, ids = plain_rows(), []
    for name, order in (("one", rows), ("other", rows[::-1])):
        (tmp_path / name).mkdir()
        prepared(tmp_path / name, csv_of(tmp_path / name, order))
        ids.append(sorted(sample_id for sample_id, _ in samples(tmp_path / name).values()))
    assert ids[0] == ids[1]


def test_the_last_rows_by_a_column_are_for_test(tmp_path: Path) -> None:
    rows = [[*row, number // 2] for number, row in enumerate(plain_rows(60))]
    random.Random(0).shuffle(rows)
    path = csv_of(tmp_path, rows, (*HEADER, "day"))
    data = prepared(tmp_path, path, split_by={"column": "day", "val": 0.15, "test": 0.25})
    of_day: dict[str, set[int]] = {"train": set(), "val": set(), "test": set()}
    for line, (_, split) in samples(tmp_path).items():
        of_day[split].add(int(str(rows[int(line) - 2][3])))
    assert max(of_day["train"]) < min(of_day["val"]) <= max(of_day["val"]) < min(of_day["test"])
    assert not of_day["val"] & of_day["test"]  # rows of one day stay together
    assert data.manifest.num_samples["test"] == 16
    assert [column["name"] for column in (data.manifest.input or {})["columns"]] == ["age", "city"]


def test_rows_are_looked_up_in_other_tables(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    users = csv_of(tmp_path, [["u1", 20, "x"], ["u2", 50, "y"], ["u3", "", "y"]], ("user", "age", "job"), "users.csv")
    rows = [[f"u{1 + number % 4}", 1 + number % 5] for number in range(80)]  # nobody knows u4
    path = csv_of(tmp_path, rows, ("user", "rating"))
    data = prepared(
        tmp_path,
        path,
        {"rare_below": 1},
        lookup={"user": str(users)},
        label_column="rating",
        positive={"class_name": "click", "at_least": 4},
    )
    manifest = data.manifest
    assert manifest.signal == "binary"
    assert manifest.class_names == ["click"]
    assert "multi-label, 1 classes, 0.4 a row, rows 3," in capfd.readouterr().err
    names = [column["name"] for column in (manifest.input or {})["columns"]]
    assert names == ["user", "age", "job"]
    split = data.split("train")
    for codes, label in zip(split.inputs.tolist(), split.hard_labels.tolist(), strict=True):
        assert codes[1:] == {2: [1, 2], 3: [2, 3], 4: [0, 3], 5: [0, 0]}[codes[0]]
        assert label[0] in (0, 1)
    every = np.concatenate([data.split(name).hard_labels.numpy() for name in ("train", "val", "test")])
    assert every.sum() == sum(int(str(rating)) >= 4 for _, rating in rows)


def test_a_column_that_is_of_no_use_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [[*row, "x", number] for number, row in enumerate(plain_rows(40))]
    path = csv_of(tmp_path, rows, (*HEADER, "same", "id"))
    prepared(tmp_path, path, columns={"age": None, "same": None, "id": "category"})
    told = capfd.readouterr().err
    assert "column 'same': category (as found), 1 names, the same in every row: of no use" in told
    assert "column 'id': category (as set), 0 of 40 names, the rest rare" in told
    assert "column 'age': number (as found), 40 bins about 20 to 59" in told


def _with(change: Callable[[list[list[object]]], object]) -> list[list[object]]:
    rows = plain_rows()
    change(rows)
    return rows


BAD: dict[str, tuple[Table, dict[str, Any], str]] = {
    "text among numbers": (
        _with(lambda rows: rows[7].__setitem__(0, "old")),
        {},
        r"t.csv:9: column 'age': 1 of 60 cells are no numbers, the first 'old'; .*columns: {age: category}",
    ),
    "text in a column of numbers": (
        _with(lambda rows: rows[7].__setitem__(0, "old")),
        {"columns": {"age": "number", "city": None}},
        r"t.csv:9: column 'age': 'old' is no number; 1 of 60",
    ),
    "infinite": (_with(lambda rows: rows[3].__setitem__(0, "-inf")), {}, r"t.csv:5: column 'age': '-inf' is infinite"),
    "all missing": ([["", *row[1:]] for row in plain_rows()], {}, "column 'age': every training row lacks it"),
    "column that is not there": (plain_rows(), {"columns": {"aeg": None}}, "no column 'aeg'.*mean 'age'"),
    "left out and not there": (plain_rows(), {"leave_out": ["town"]}, "no column 'town'"),
    "no label column": (plain_rows(), {"label_column": "class"}, "no column 'class'"),
    "label among columns": (plain_rows(), {"columns": {"age": None, "label": None}}, "'label' is among `columns`"),
    "numbers and words": (
        _with(lambda rows: rows[5].__setitem__(2, 3)),
        {},
        r"labels are numbers in some rows \('3'\) and words in others \('no'\)",
    ),
    "label that is no number": (
        plain_rows(),
        {"positive": {"class_name": "click", "at_least": 4.0}},
        r"t.csv:2: label 'no' is no number; .*a yes or a no",
    ),
    "positive beside classes": (
        plain_rows(),
        {"positive": {"class_name": "click", "at_least": 4.0}, "classes": ["a", "b"]},
        "positive: given beside other classes",
    ),
    "two ways to split": (
        plain_rows(),
        {"split_by": {"column": "age", "val": 0.1, "test": 0.1}, "split_column": "city"},
        "split_by: given beside `split_column`",
    ),
    "nothing left to train on": (
        plain_rows(),
        {"split_by": {"column": "age", "val": 0.5, "test": 0.6}},
        "shares that leave rows for training",
    ),
    "one value to split by": (
        [[1, *row[1:]] for row in plain_rows()],
        {"split_by": {"column": "age", "val": 0.1, "test": 0.1}},
        r"all have age 1.0; .*many places",
    ),
    "empty cell to split by": (
        _with(lambda rows: rows[3].__setitem__(0, "")),
        {"split_by": {"column": "age", "val": 0.1, "test": 0.1}},
        r"t.csv:5: 1 of 60 cells of 'age' are no numbers, the first ''",
    ),
    "one class": ([[*row[:2], "no"] for row in plain_rows()], {}, "only one class, 'no'"),
    "no rows": ([], {}, "no rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_a_line(name: str, tmp_path: Path) -> None:
    rows, source, line = BAD[name]
    with pytest.raises(PipelineError, match=line) as caught:
        prepared(tmp_path, csv_of(tmp_path, rows), **source)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 500


def test_columns_that_can_not_be_told_apart_or_have_no_name_are_a_line(tmp_path: Path) -> None:
    twice = csv_of(tmp_path, plain_rows(), ("age", "age", "label"))
    with pytest.raises(SourceError, match="two columns 'age'; expected different names"):
        prepared(tmp_path, twice)
    numbered = csv_of(tmp_path, [[number, *row] for number, row in enumerate(plain_rows())], ("", *HEADER))
    with pytest.raises(SourceError, match=r'a column without a name.*`leave_out: \[""\]`'):
        prepared(tmp_path, numbered)
    assert prepared(tmp_path, numbered, leave_out=[""]).manifest.image_shape == [2]


def test_a_class_in_test_alone_is_refused(tmp_path: Path) -> None:
    rows = [[*row, "train"] for row in plain_rows()] + [[1, "A", "perhaps", "test"]]
    with pytest.raises(SourceError, match="'perhaps' is in 'test' but not in 'train'"):
        prepared(tmp_path, csv_of(tmp_path, rows, (*HEADER, "split")), split_column="split")


def test_broken_rows_are_skipped_where_that_is_asked_for(tmp_path: Path) -> None:
    rows = _with(lambda each: each[7].__setitem__(0, "old"))
    params = small_params()
    source = {"kind": "rows", "path": str(csv_of(tmp_path, rows)), "columns": {"age": "number", "city": None}}
    params["prepare"] |= {"source": source, "broken": "skip"}
    prepare.main(write_params(tmp_path, params), tmp_path / "raw", tmp_path / "data", tmp_path / "work")
    assert ImageDataset(tmp_path / "data").manifest.num_skipped == 1
    assert "'old' is no number" in (tmp_path / "data/broken.tsv").read_text()


def test_a_key_for_images_is_refused(tmp_path: Path) -> None:
    params = small_params()
    params["prepare"] |= {"source": {"kind": "rows", "path": str(csv_of(tmp_path, plain_rows()))}, "image_px": [8, 8]}
    with pytest.raises(PipelineError, match="image_px: given, and the source has rows"):
        prepare.main(write_params(tmp_path, params), tmp_path / "raw", tmp_path / "data", tmp_path / "work")


def test_a_value_twice_in_a_second_table_is_refused(tmp_path: Path) -> None:
    users = csv_of(tmp_path, [["A", 1], ["A", 2]], ("city", "size"), "cities.csv")
    with pytest.raises(SourceError, match=r"cities.csv:3: city 'A' a second time"):
        prepared(tmp_path, csv_of(tmp_path, plain_rows()), lookup={"city": str(users)})


def test_texts_that_stand_for_nothing_can_be_named(tmp_path: Path) -> None:
    rows = _with(lambda each: each[7].__setitem__(0, "?"))
    data = prepared(tmp_path, csv_of(tmp_path, rows), missing=["?"])
    every = np.concatenate([data.split(name).inputs.numpy() for name in ("train", "val", "test")])
    assert (every[:, 0] == MISSING).sum() == 1


def test_a_row_that_is_lost_on_disk_is_found_out(tmp_path: Path) -> None:
    data = prepared(tmp_path, csv_of(tmp_path, plain_rows()))
    split = data.split("train")
    split.inputs[0, 0] += 1
    with pytest.raises(DataError, match="some rows are not those of their sample ids"):
        split.content.check(split.inputs.numpy(), split.sample_ids, "here")
