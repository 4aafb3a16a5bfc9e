"""The code of docs/library.md runs as it stands, block after block, and is as short as it says."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.core.closure import TOP
from pipeline.views.operations import OPERATIONS

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (TOP / "docs/library.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/library.md", "exec"), names)
    assert names["loss"].isfinite()
    assert names["probabilities"].shape == (3, 4)
    assert (tmp_path / "labels/soft.zarr").is_dir()
    shown = capsys.readouterr().out
    assert "400 in 4 views" in shown
    assert "8 steps in an epoch" in shown


def test_labels_take_under_20_lines_and_a_student_under_20_more() -> None:
    for block in BLOCKS[:2]:
        assert len([line for line in block.splitlines() if line.strip()]) < 20


def test_the_pages_name_every_operation_of_views() -> None:
    pages = {name: (TOP / f"docs/{name}.md").read_text() for name in ("library", "inputs")}
    lacking = [
        kind
        for kind, operation in OPERATIONS.items()
        if f"{kind}" not in pages["library" if operation.input_kind == "image" else "inputs"]
    ]
    assert lacking == []
