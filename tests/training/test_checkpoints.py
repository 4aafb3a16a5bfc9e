"""Checkpoints: what was written last is read whole, or training starts from the beginning."""

from pathlib import Path

import pytest
import torch
from damage import flipped

from pipeline.training.checkpoints import read_checkpoint, write_checkpoint

STATE = {"epoch": 3, "seen": {1: torch.arange(6.0).reshape(2, 3)}, "history": [{"loss": 0.25}, "x"]}


def assert_whole(state: object) -> None:
    assert isinstance(state, dict)
    assert (state["epoch"], state["history"]) == (3, STATE["history"])
    assert torch.equal(state["seen"][1], STATE["seen"][1])  # type: ignore[index]


def test_what_was_written_last_is_read(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path) is None
    write_checkpoint(tmp_path, "0", {"epoch": 1})
    write_checkpoint(tmp_path, "1", STATE)
    assert_whole(read_checkpoint(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("file", ["checkpoint.json", "checkpoint-1.safetensors"])
def test_no_flipped_bit_is_resumed_from(tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path, "1", STATE)
    refused = 0
    for _ in flipped(tmp_path / file, 60):
        if (state := read_checkpoint(tmp_path)) is None:
            refused += 1
        else:  # a blank of the JSON file that became another one
            assert_whole(state)
    assert refused == capsys.readouterr().err.count("is damaged: starting from the beginning")
    assert refused == 60 or (file.endswith("json") and refused > 40)
