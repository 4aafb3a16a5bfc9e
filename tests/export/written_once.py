"""ONNX files of the same network, written once: torch's exporter takes two seconds for each."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch.export import ExportedProgram

from pipeline.export import write
from pipeline.export.onnx_file import PIXELS, write_onnx


@contextmanager
def onnx_files_written_once() -> Iterator[None]:
    """Has what the exporter wrote for a network written again for the same graph and weights."""
    written: dict[str, tuple[bytes, list[str]]] = {}

    def write_once(
        path: Path, program: ExportedProgram, about: Mapping[str, str], input_name: str = PIXELS
    ) -> list[str]:
        weights = {name: tensor.tolist() for name, tensor in program.state_dict.items()}
        key = f"{program.graph} {weights} {json.dumps(dict(about))}"
        if key not in written:
            modules = write_onnx(path, program, about, input_name)
            written[key] = (path.read_bytes(), modules)
        content, modules = written[key]
        path.write_bytes(content)
        return modules

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "write_onnx", write_once)
        yield
