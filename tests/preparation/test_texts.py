"""Texts from a source to a data set: words, ids, the tokenizer, and what is no text."""

import csv
import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults import die_at, ended, fork
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import content_of
from project import environment, files_of, small_params, write_params

from pipeline.core.closure import TOP
from pipeline.core.errors import PipelineError, one_line_errors
from pipeline.data.content import Content
from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import FIRST_WORD, PAD, TOKENS
from pipeline.data.tokenizer_file import read_tokenizer
from pipeline.preparation.words import words_of
from stages import prepare

OWN = {"sea": "boat fish wave", "wood": "tree leaf moss"}
SMALL = {"max_words": 12, "tokenizer": "bpe", "vocabulary": 300}


def make_rows(count: int = 40) -> list[dict[str, Any]]:
    """Makes texts of 3 to 9 words; those of the last quarter are of the split test."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        label = ("sea", "wood")[number % 2]
        words = rng.choice([*OWN[label].split(), "the", "of", f"n{number}"], rng.integers(3, 10))
        rows.append({"text": " ".join(words), "label": label, "split": "test" if number >= count * 3 // 4 else "train"})
    return rows


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes rows as the kind of table that the path's name is of."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        lines = path.parent / "lines"
        with lines.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if ".tsv" in path.name else ",")
            writer.writeheader()
            writer.writerows(rows)
        text = lines.read_text()
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def prepared(folder: Path, source: dict[str, Any], text: dict[str, Any] | None = None, **changes: Any) -> ImageDataset:
    """Returns the data set of a source, made by the stage."""
    folder.mkdir(parents=True, exist_ok=True)
    section = {"source": source, "text": text or SMALL, "val_fraction": 0.2, "test_fraction": 0.2, "seed": 0}
    path = write_params(folder, small_params() | {"prepare": section | changes})
    prepare.main(path, folder / "raw", folder / "prepare", folder / "work")
    return ImageDataset(folder / "prepare")


def table(path: Path, **changes: Any) -> dict[str, Any]:
    return {"kind": "text_table", "path": str(path), "split_column": "split"} | changes


def texts_of(data: ImageDataset, name: str) -> list[str]:
    split = data.split(name)
    words = split.content.words
    return [" ".join(words[number] for number in row if number != PAD) for row in split.inputs.tolist()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    folder = tmp_path_factory.mktemp("texts")
    return prepared(folder, table(write_table(folder / "a.csv", make_rows())))


def test_the_texts_of_a_table_are_its_data_set(whole: ImageDataset) -> None:
    rows = make_rows()
    expected = {part: sorted(row["text"] for row in rows if row["split"] == part) for part in ("train", "test")}
    assert sorted([*texts_of(whole, "train"), *texts_of(whole, "val")]) == expected["train"]
    assert sorted(texts_of(whole, "test")) == expected["test"]
    train = whole.split("train")
    for text, label in zip(texts_of(whole, "train"), train.hard_labels.tolist(), strict=True):
        (row,) = [row for row in rows if row["text"] == text]
        assert whole.manifest.class_names[label] == row["label"]
    assert train.inputs.shape[1:] == (SMALL["max_words"],)
    assert whole.manifest.input is not None
    assert whole.manifest.input["num_words"] == len({word for row in rows for word in row["text"].split()})


@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl", "a.parquet", "a.csv.gz"])
def test_any_table_gives_the_same_data_set(name: str, whole: ImageDataset, tmp_path: Path) -> None:
    data = prepared(tmp_path, table(write_table(tmp_path / name, make_rows())))
    assert data.manifest.fingerprints == whole.manifest.fingerprints
    assert data.manifest.input == whole.manifest.input


def write_class_folders(folder: Path) -> Path:
    for number, row in enumerate(make_rows()):
        path = folder / row["split"] / row["label"] / f"{number:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(row["text"].replace(" ", "\n", 1))  # white space of any kind is one
    return folder


def test_a_folder_of_text_files_gives_the_same_data_set(whole: ImageDataset, tmp_path: Path) -> None:
    data = prepared(tmp_path, {"kind": "text_folder", "path": str(write_class_folders(tmp_path / "texts"))})
    assert data.manifest.fingerprints == whole.manifest.fingerprints
    assert data.manifest.input == whole.manifest.input


def test_a_text_may_be_of_several_classes(tmp_path: Path) -> None:
    rows = make_rows()
    for number, row in enumerate(rows):
        row["label"] = "|".join([row["label"], *(["long"] if number % 3 == 0 else [])])
    data = prepared(tmp_path, table(write_table(tmp_path / "a.csv", rows), separator="|"))
    assert (data.manifest.signal, data.manifest.class_names) == ("binary", ["long", "sea", "wood"])
    split = data.split("test")
    expected = {row["text"]: row["label"] for row in rows}
    for text, label in zip(texts_of(data, "test"), split.hard_labels.tolist(), strict=True):
        named = {name for name, is_of in zip(data.manifest.class_names, label, strict=True) if is_of == 1}
        assert named == set(expected[text].split("|"))


def test_other_words_change_no_id(whole: ImageDataset, tmp_path: Path) -> None:
    more = [*make_rows(), {"text": "aardvark zebra 1", "label": "sea", "split": "train"}]
    data = prepared(tmp_path, table(write_table(tmp_path / "a.csv", more)))
    assert data.manifest.input != whole.manifest.input
    new = {*data.split("train").sample_ids.tolist(), *data.split("val").sample_ids.tolist()}
    old = {*whole.split("train").sample_ids.tolist(), *whole.split("val").sample_ids.tolist()}
    assert old < new
    assert data.manifest.fingerprints["test"] == whole.manifest.fingerprints["test"]


def test_more_room_changes_no_id(whole: ImageDataset, tmp_path: Path) -> None:
    data = prepared(tmp_path, table(write_table(tmp_path / "a.csv", make_rows())), SMALL | {"max_words": 30})
    assert data.manifest.image_shape == [30]
    assert data.manifest.fingerprints == whole.manifest.fingerprints


@settings(max_examples=50, deadline=None)
@given(
    words=st.lists(st.sampled_from(content_of("tokens").words[FIRST_WORD:]), min_size=1, max_size=9),
    room=st.integers(0, 9),
)
def test_an_id_is_of_words_alone(words: list[str], room: int) -> None:
    own = content_of("tokens")
    other = Content(TOKENS, words=("", "", *sorted({*own.words[FIRST_WORD:], "0", "zz", "b"})))

    def id_in(content: Content, behind: int) -> int:
        numbers = [content.words.index(word, FIRST_WORD) for word in words] + [PAD] * behind
        return int(content.ids(np.array([numbers], np.int32))[0])

    assert id_in(own, 0) == id_in(other, room)


def test_words_are_in_one_form() -> None:
    assert words_of(" nai\u0308ve\u00a0Tea,\r\n\tdon't\u2028x ") == ["naïve", "Tea,", "don't", "x"]
    assert words_of("\u3000 \n") == []


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_a_tokenizer_is_of_the_training_texts_alone(kind: str, tmp_path: Path) -> None:
    rows = make_rows()
    for row in rows:
        row["text"] += " zyx" * (3 if row["split"] == "test" else 0)
    text = SMALL | {"tokenizer": kind, "lowercase": True}
    data = prepared(tmp_path, table(write_table(tmp_path / "a.csv", rows)), text)
    vocabulary = read_tokenizer(tmp_path / "prepare/tokenizer.json").get_vocab()
    assert len(vocabulary) <= 300
    assert {"[UNK]", "[MASK]"} <= vocabulary.keys()
    assert not any("zy" in token for token in vocabulary)
    assert any("boat" in token for token in vocabulary)
    assert "zyx" in data.split("test").content.words


def test_the_tokenizer_is_the_same_in_every_process(whole: ImageDataset, tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", make_rows())
    section = {"source": table(path), "text": SMALL, "val_fraction": 0.2, "test_fraction": 0.2, "seed": 0}
    write_params(tmp_path, small_params() | {"prepare": section})
    around = environment() | {"RAYON_NUM_THREADS": "3", "PYTHONPATH": str(TOP), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-m", "stages.prepare"], cwd=tmp_path, env=around, check=True, capture_output=True)
    own = ImageDataset(tmp_path / "data/prepare").manifest.input
    assert own == whole.manifest.input


def test_a_tokenizer_that_exists_is_taken_as_it_is(whole: ImageDataset, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_bytes((whole.folder / "tokenizer.json").read_bytes() + b"\n")
    path = write_table(tmp_path / "a.csv", make_rows())
    prepared(tmp_path, table(path), {"max_words": 12, "tokenizer": str(own)})
    assert (tmp_path / "prepare/tokenizer.json").read_bytes() == own.read_bytes()
    own.write_text(own.read_text().replace("[MASK]", "[mask]"))
    prepared(tmp_path, table(path), {"max_words": 12, "tokenizer": str(own)})  # another file is another data set
    assert (tmp_path / "prepare/tokenizer.json").read_bytes() == own.read_bytes()


def test_texts_that_are_cut_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_table(tmp_path / "a.csv", make_rows())
    data = prepared(tmp_path, table(path), SMALL | {"max_words": 4})
    long = sum(len(row["text"].split()) > 4 for row in make_rows())
    assert f"{long} of all have more than 4 words and are cut" in "".join(capsys.readouterr())
    assert max(len(text.split()) for text in texts_of(data, "train")) == 4


Change = Callable[[list[dict[str, Any]]], object]
BAD_CELLS: dict[str, tuple[Any, str]] = {
    "empty": ("", "no words in it"),
    "white space": (" \u3000\t", "no words in it"),
    "NUL": ("a\0b", "a NUL at character 1: no text"),
    "no space": ("x" * 1001, r"1,001 characters without a space \('xxxxxxxxxxxxxxxxxxxx'\.\.\.\), of at most 1,000"),
}


@pytest.mark.parametrize("name", BAD_CELLS)
def test_a_text_that_is_none_is_a_line_or_skipped(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell, line = BAD_CELLS[name]
    rows = make_rows()
    rows[3]["text"] = cell
    path = write_table(tmp_path / "a.jsonl", rows)
    with pytest.raises(PipelineError, match=line) as caught:
        prepared(tmp_path, table(path))
    assert "\n" not in str(caught.value)
    assert "a.jsonl:4" in str(caught.value)
    data = prepared(tmp_path, table(path), broken="skip")
    assert data.manifest.num_skipped == 1
    assert "a.jsonl:4" in (tmp_path / "prepare/broken.tsv").read_text()


def test_half_a_sign_is_no_text(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.jsonl", make_rows())
    path.write_text(path.read_text().replace('"text": "', '"text": "\\ud83d ', 1))
    with pytest.raises(PipelineError, match="half of a sign at character 0"):
        prepared(tmp_path, table(path))


def test_a_file_of_other_bytes_is_no_text(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "texts")
    (folder / "train/sea/bad.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(PipelineError, match=r"train/sea/bad\.txt.*not UTF-8 text \(byte 2 is 0xef\)"):
        prepared(tmp_path, {"kind": "text_folder", "path": str(folder)})


def of_type(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["text"] = len(row["text"])


def alone_in_test(rows: list[dict[str, Any]]) -> None:
    rows[-1]["label"] = "hill"


def one_class(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["label"] = "sea"


def no_split(rows: list[dict[str, Any]]) -> None:
    rows[5]["split"] = "holdout?"


BAD_TABLES: dict[str, tuple[Change | None, dict[str, Any], str]] = {
    "no column": (None, {"text_column": "txet"}, r"no column 'txet'; expected .*'text'|no key 'txet'"),
    "no label column": (None, {"label_column": "class"}, r"no (column|key) 'class'"),
    "a column of numbers": (of_type, {}, r"column 'text' has \d+ \(int\); expected a text; set `text_column`"),
    "a class in test alone": (alone_in_test, {}, r"hill"),
    "one class": (one_class, {}, r"class"),
    "no such split": (no_split, {}, r"holdout\?"),
    "another operation's key": (None, {"image_column": "x"}, r"image_column: unknown key"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_table_that_does_not_fit_is_a_line(name: str, tmp_path: Path) -> None:
    change, settings_of, line = BAD_TABLES[name]
    rows = make_rows()
    if change is not None:
        change(rows)
    path = write_table(tmp_path / "a.parquet", rows)
    with pytest.raises(PipelineError, match=line) as caught:
        prepared(tmp_path, table(path, **settings_of))
    assert "\n" not in str(caught.value)


BAD_BYTES = {
    "not UTF-8": ("a.csv", b"text,label,split\ncaf\xe9,sea,train\n", "not a table .*UTF-8"),
    "cut off": (
        "a.csv.gz",
        gzip.compress(b"text,label,split\n" + b"a,sea,train\n" * 99)[:-9],
        r"not a table \(not packed as \.gz, or cut off",
    ),
    "not packed": ("a.csv.gz", b"text,label,split\na,sea,train\n", r"not a table \(not packed as \.gz, or cut off"),
    "no rows": ("a.csv", b"text,label,split\n", "no rows; expected texts, one a line"),
    "nothing": ("a.csv", b"", "empty; expected a line of column names"),
    "a cell too many": ("a.csv", b"text,label,split\na,b,sea,train\n", "4 fields; expected 3"),
    "not JSON": ("a.jsonl", b"text\n", "not JSON"),
    "another file": ("a.xlsx", b"PK", r"ends in '\.xlsx'; expected a table in \.csv"),
    "other signs between cells": (
        "a.csv",
        b"text;label\na;sea\n",
        "one column, 'text;label'; expected cells between commas",
    ),
    "two columns of one name": ("a.csv", b"text,label,split,label\na,sea,train,b\n", "two columns 'label'"),
    "half of a sign in a class": (
        "a.jsonl",
        b'{"text": "a", "label": "sea", "split": "train"}\n{"text": "a", "label": "\\ud800", "split": "train"}\n',
        "a name that is not UTF-8",
    ),
    "no quote at the end": ("a.csv", b'text,label,split\n"a,sea,train\n', "not a table"),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_a_file_that_is_no_table_is_a_line(name: str, tmp_path: Path) -> None:
    file, content, line = BAD_BYTES[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(PipelineError, match=line) as caught:
        prepared(tmp_path, table(tmp_path / file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "changes", "line"),
    [
        ({"tokenizer": "unigram"}, {}, r"prepare\.text\.tokenizer: 'unigram': no such file; expected bpe, wordpiece"),
        ({"vocabulary": 10}, {}, r"prepare\.text\.vocabulary: 10"),
        ({"max_words": 0}, {}, r"prepare\.text\.max_words: 0"),
        ({"max_tokens": 9}, {}, r"prepare\.text\.max_tokens: unknown key"),
        ({}, {"image_px": [8, 8]}, r"prepare\.image_px: given, and the source has texts"),
        ({"tokenizer": "@"}, {}, r"not a tokenizer"),
        ({"tokenizer": "@", "lowercase": True}, {}, r"text\.lowercase: given beside a tokenizer\.json"),
        ({"tokenizer": "@", "vocabulary": 400}, {}, r"text\.vocabulary: given beside a tokenizer\.json"),
    ],
    ids=["unknown", "few", "no words", "key", "of images", "no tokenizer", "lowercase", "vocabulary"],
)
def test_settings_that_do_not_fit_are_a_line(
    text: dict[str, Any], changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    (tmp_path / "own.json").write_text("{}")
    own = {key: str(tmp_path / "own.json") if value == "@" else value for key, value in text.items()}
    with pytest.raises(PipelineError, match=line) as caught:
        prepared(tmp_path, table(write_table(tmp_path / "a.csv", make_rows())), {"max_words": 12} | own, **changes)
    assert "\n" not in str(caught.value)


def test_settings_of_texts_are_not_for_images(tmp_path: Path) -> None:
    params = small_params()
    params["prepare"]["text"] = SMALL
    with pytest.raises(PipelineError, match=r"prepare\.text: given, and the source has images"):
        prepare.main(write_params(tmp_path, params), tmp_path, tmp_path / "prepare", tmp_path / "work")


def run_killed(folder: Path, source: dict[str, Any], step: int) -> int:
    """Runs in a process of its own, killed before a step (-1: not); returns how it ended."""

    def child() -> None:
        with one_line_errors():
            die_at(step)
            prepared(folder, source)

    return ended(fork(child, folder / "said.txt"))


def test_a_killed_run_goes_on_to_the_same_bytes(whole: ImageDataset, tmp_path: Path) -> None:
    source = table(write_table(tmp_path / "a.csv", make_rows()))
    for step in (2, 9, 15, 22):
        assert run_killed(tmp_path, source, step) == -signal.SIGKILL
    assert run_killed(tmp_path, source, -1) == 0
    assert files_of(tmp_path / "prepare") == files_of(whole.folder)
