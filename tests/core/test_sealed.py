"""Sealed JSON: what was written is read, and nothing else is."""

import json
from pathlib import Path

import pytest
from damage import flipped

from pipeline.core.errors import DataError
from pipeline.core.sealed import SEAL, read_sealed, write_sealed

CONTENT = {"name": "small", "values": [0.1, 1e-30, -3], "map": {"b": None, "a": [True, "ä"]}}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_sealed(tmp_path / "x.json", CONTENT)
    assert read_sealed(tmp_path / "x.json", made_by="prepare") == CONTENT


def test_keys_that_are_numbers_are_read_as_text(tmp_path: Path) -> None:
    write_sealed(tmp_path / "x.json", {"map": {3: "a", "b": 0}})
    assert read_sealed(tmp_path / "x.json", made_by="prepare") == {"map": {"3": "a", "b": 0}}


def test_a_flipped_bit_is_found_or_means_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_sealed(path, CONTENT)
    found = 0
    for _ in flipped(path, 300):
        try:
            assert read_sealed(path, made_by="prepare") == CONTENT
        except DataError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            found += 1
    assert found > 200


@pytest.mark.parametrize("content", ["[]", "{}", "3", json.dumps({SEAL: None}), json.dumps(CONTENT)])
def test_a_file_without_a_seal_is_refused_with_what_to_do(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"x.json: .*run `potstill repair`, then `dvc repro prepare`"):
        read_sealed(path, made_by="prepare")
