"""Files are whole or absent, damage is reported by name, and unfinished work survives what killed
it.
"""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.core.files import file_fingerprint, fingerprint, read_json, write_bytes, write_json
from pipeline.core.tensors import read_tensors, write_tensors
from pipeline.core.trees import drop_tree, link_tree

TOP = Path(__file__).parents[2]
TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([1, 2, 3])}


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")])
def test_a_write_that_fails_midway_leaves_the_old_content_and_no_litter(
    owner: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "x", b"old")
    monkeypatch.setattr(owner, name, full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "x", b"new and longer")
    with pytest.raises(OSError, match="No space left"):
        write_json(tmp_path / "y", {})
    monkeypatch.undo()
    assert (tmp_path / "x").read_bytes() == b"old"
    assert files(tmp_path) == ["x"]


def test_a_write_is_flushed_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("flush"), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda path, to: (events.append("rename"), replace(path, to))[1])
    write_bytes(tmp_path / "folder" / "x", b"content")
    assert events == ["flush", "rename", "flush"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [1.0, float("-inf")]}])
def test_json_that_others_could_not_read_is_refused_and_leaves_the_old_file(value: object, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, value)
    assert read_json(path, made_by="prepare") == {"a": 1}


def test_the_same_tensors_give_the_same_bytes_in_any_order_and_layout(tmp_path: Path) -> None:
    write_tensors(tmp_path / "1", TENSORS)
    turned = {"a": TENSORS["a"], "b": TENSORS["b"].t().contiguous().t()}
    write_tensors(tmp_path / "2", turned)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    found = read_tensors(tmp_path / "2", made_by="train_teacher")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize("read", [read_json, read_tensors])
def test_a_missing_file_is_named_with_the_stage_that_makes_it(read: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.file: no such file; run `dvc repro prepare`"):
        read(tmp_path / "x.file", made_by="prepare")


def test_a_damaged_json_file_is_named_with_the_stage_that_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for content in (b"", b'{"a": 1', b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.json: not a JSON file.*`dvc repro evaluate`"):
            read_json(path, made_by="evaluate")


@pytest.mark.parametrize("length", [0, 5, 40, -1])
def test_truncated_tensors_are_named_with_the_stage_that_makes_them(length: int, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"x\.safetensors: not a safetensors file.*`dvc repro train_teacher`"):
        read_tensors(path, made_by="train_teacher")


@settings(deadline=None, max_examples=25, database=None)
@given(st.permutations([("a", 1), ("b", [1, 2]), ("c", None), ("é", "x")]), st.permutations([("y", 0.5), ("x", 2)]))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(outer: list[Any], inner: list[Any]) -> None:
    in_order = {"a": 1, "b": [1, 2], "c": None, "d": {"x": 2, "y": 0.5}, "é": "x"}
    assert fingerprint(dict([*outer, ("d", dict(inner))])) == fingerprint(in_order)


def test_a_fingerprint_changes_with_values_nesting_and_order_of_lists() -> None:
    values = [{"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {"a": True}, {"a": {"a": 1}}, {"a": [1, 2]}, {"a": [2, 1]}]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_a_files_fingerprint_is_that_of_its_content(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (file_fingerprint(tmp_path / name) for name in "abc")
    assert a == b != c


def tree(place: Path, names: list[str], content: str) -> Path:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content)
    return place


def listing(place: Path) -> dict[str, str]:
    return {str(p.relative_to(place)): p.read_text() for p in place.rglob("*") if p.is_file()}


def test_a_linked_tree_holds_the_same_files_and_no_second_copy(tmp_path: Path) -> None:
    one = tree(tmp_path / "one", ["a", "b/c", "b/d/e"], "x")
    assert link_tree(one, tmp_path / "other")
    assert listing(tmp_path / "other") == listing(one) == {"a": "x", "b/c": "x", "b/d/e": "x"}
    assert all((tmp_path / "other" / name).samefile(one / name) for name in listing(one))
    shutil.rmtree(one)
    assert listing(tmp_path / "other") == {"a": "x", "b/c": "x", "b/d/e": "x"}


def test_a_file_that_is_replaced_in_one_tree_stays_in_the_other(tmp_path: Path) -> None:
    one = tree(tmp_path / "one", ["a", "b"], "x")
    link_tree(one, tmp_path / "other")
    write_bytes(one / "a", b"new")
    assert listing(tmp_path / "other") == {"a": "x", "b": "x"}


def test_a_linked_tree_takes_the_place_of_what_stood_there(tmp_path: Path) -> None:
    tree(tmp_path / "other", ["a", "old"], "old")
    tree(tmp_path / "other.123.partial", ["a"], "left by a killed process")
    assert link_tree(tree(tmp_path / "one", ["a"], "new"), tmp_path / "other")
    assert listing(tmp_path / "other") == {"a": "new"}
    assert files(tmp_path) == ["one", "other"]


@pytest.mark.parametrize("linked", [0, 1])
@pytest.mark.parametrize("has_old", [False, True])
def test_where_the_file_system_has_no_links_nothing_half_made_is_left(
    linked: int, has_old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, left, link = tree(tmp_path / "one", ["a", "b"], "new"), iter(range(linked)), os.link
    if has_old:
        tree(tmp_path / "other", ["old"], "old")

    def refuse(*arguments: Any, **named: Any) -> None:
        if next(left, None) is None:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        link(*arguments, **named)

    monkeypatch.setattr(os, "link", refuse)
    assert not link_tree(one, tmp_path / "other")
    assert files(tmp_path) == (["one", "other"] if (tmp_path / "other").exists() else ["one"])
    assert not (tmp_path / "other").exists() or listing(tmp_path / "other") == {"old": "old"}
    assert listing(one) == {"a": "new", "b": "new"}


def test_a_folder_is_removed_with_all_that_is_in_it_and_nothing_behind_links(tmp_path: Path) -> None:
    for path in ("outside/x", "tree/a", "tree/b/c/d", "tree/b/e"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "tree/b/link").symlink_to(tmp_path / "outside")
    (tmp_path / "tree/nowhere").symlink_to(tmp_path / "none")
    drop_tree(tmp_path / "tree")
    drop_tree(tmp_path / "none")
    assert files(tmp_path) == ["outside"]
    assert files(tmp_path / "outside") == ["x"]
