"""The params files in docs/params: whole, and of the keys that params.yaml has."""

from pathlib import Path

import pytest

from pipeline.core.closure import TOP
from pipeline.core.config import load_params
from pipeline.doctor.findings import Findings
from pipeline.doctor.params import read_params
from pipeline.preparation.settings import KEYS
from pipeline.preparation.sources import build_source

FILES = sorted((TOP / "docs/params").glob("*.yaml"))
TABLES = ("encodings", "students", "exports")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_params_file_is_one_that_the_stages_take(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_params(path, Findings())
    assert "error" not in capsys.readouterr().out
    build_source(load_params(path)["prepare"]["source"], str(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_params_file_has_the_keys_of_params_yaml(path: Path) -> None:
    own, ours = load_params(path), load_params(TOP / "params.yaml")
    assert own.keys() == ours.keys()
    of_a_kind = {key for keys in KEYS.values() for key in keys}
    assert own["prepare"].keys() - of_a_kind == ours["prepare"].keys() - of_a_kind
    if build_source(own["prepare"]["source"], str(path)).input_kind == "image":
        assert {*KEYS["image"]} <= own["prepare"].keys()
    for name in ours.keys() - {*TABLES, "prepare"}:
        assert own[name].keys() == ours[name].keys(), name
    assert {student["labels"] for student in own["students"].values()} <= own["encodings"].keys()
