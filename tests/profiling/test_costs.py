"""The cost of a network: against a clock and a memory meter from outside, and whoever asks."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from pipeline.core.closure import TOP
from pipeline.core.errors import PipelineError
from pipeline.models.saved import ModelMeta, write_model
from pipeline.profiling.latency import measure_cost

TIME = Path("/usr/bin/time")
SLEEP_MS, WEIGHT_BYTES = 20, 60_000_000

#: Takes a known time for each call.
SLOW = """
import time

import torch
from torch import nn


class Slow(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = nn.Parameter(torch.zeros(classes, 1_500_000))

    def forward(self, images):
        time.sleep(0.02)
        return self.head[:, 0] + images.mean(dim=(1, 2, 3))[:, None]


def build(num_classes, channels):
    return Slow(num_classes)
"""


@pytest.fixture(scope="module", autouse=True)
def measured_here() -> None:
    """Leaves each measurement in the fresh process of its own that these tests are about."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a network that sleeps 20 ms an image and has 60 MB of weights."""
    folder = tmp_path_factory.mktemp("slow")
    file = folder / "network.py"
    file.write_text(SLOW)
    classes = [str(number) for number in range(10)]
    meta = ModelMeta(f"{file}:build", {}, classes, [1, 8, 8], [0.3], [0.3], {}, "float32", {})
    write_model(folder, meta, meta.build(folder=folder).state_dict())
    return folder


def write_onnx(path: Path, kind: int = TensorProto.UINT8, outputs: int = 10) -> Path:
    """Writes a linear layer over 64 pixels."""
    weights = numpy_helper.from_array(np.ones((64, outputs), dtype=np.float32), "weights")
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    images = helper.make_tensor_value_info("images", kind, ["batch", 1, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])
    graph = helper.make_graph(nodes, "linear", [images], [logits], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


@pytest.mark.skipif(not TIME.exists(), reason="GNU time is not installed")
def test_latency_memory_and_seconds_are_what_is_measured_from_outside(slow: Path) -> None:
    probe = [sys.executable, "-m", "pipeline.profiling.probe", "torch", str(slow), "--repeats=50", "--warmup=2"]
    command = [str(TIME), "-f", "%M %e", *probe]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True)
    inside: dict[str, Any] = json.loads(done.stdout)
    peak_kb, seconds = done.stderr.split()
    assert inside["peak_memory_bytes"] == pytest.approx(1024 * int(peak_kb), rel=0.02)
    assert inside["peak_memory_bytes"] - inside["import_memory_bytes"] > WEIGHT_BYTES
    # Outside there are the interpreter's start and the imports before the first line, too.
    assert 0.6 * float(seconds) < sum(inside["seconds"].values()) <= float(seconds) + 0.01
    assert SLEEP_MS <= inside["p50"] < 4 * SLEEP_MS  # more than it sleeps where others work, too
    assert inside["p50"] <= inside["p95"]
    assert inside["seconds"]["calls"] >= 52 * SLEEP_MS / 1000


def test_the_memory_of_who_asks_does_not_count(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "small.onnx")
    before = measure_cost("onnx", path, 5, 1)
    held = np.ones(500_000_000, dtype=np.uint8)
    after = measure_cost("onnx", path, 5, 1)
    assert held.all()
    assert after.peak_memory_bytes == pytest.approx(before.peak_memory_bytes, rel=0.02)
    assert before.peak_memory_bytes < 200_000_000


def test_a_larger_network_takes_more_memory_and_time(tmp_path: Path) -> None:
    small = measure_cost("onnx", write_onnx(tmp_path / "small.onnx"), 20, 2)
    large = measure_cost("onnx", write_onnx(tmp_path / "large.onnx", outputs=WEIGHT_BYTES // 64 // 4), 20, 2)
    assert large.peak_memory_bytes - small.peak_memory_bytes > WEIGHT_BYTES
    assert large.import_memory_bytes == pytest.approx(small.import_memory_bytes, rel=0.02)
    assert large.latency_ms["one"]["p50"] > 5 * small.latency_ms["one"]["p50"]


def test_one_thread_and_all_are_measured_apart(tmp_path: Path) -> None:
    path, before = write_onnx(tmp_path / "small.onnx"), torch.get_num_threads()
    alone = asdict(measure_cost("onnx", path, 5, 1))
    assert alone["threads"] == 1
    assert alone["latency_ms"]["one"] == alone["latency_ms"]["all"]
    try:
        torch.set_num_threads(2)
        cost = asdict(measure_cost("onnx", path, 5, 1))
    finally:
        torch.set_num_threads(before)
    assert cost["threads"] == 2
    assert cost["latency_ms"]["one"] != cost["latency_ms"]["all"]
    assert json.loads(json.dumps(cost)) == cost


def test_an_onnx_file_is_measured_without_torch(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "small.onnx")
    script = (
        "import sys; from pathlib import Path; from pipeline.profiling import probe; "
        f"probe.measure('onnx', Path({str(path)!r}), 1, 1, 0); "
        "sys.exit(str(sorted({'torch', 'onnx', 'zarr', 'pydantic'} & set(sys.modules)) or 0))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=TOP, capture_output=True, text=True)
    assert done.stderr.strip() == "0"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["no such file"]),
        (b"", ["can't be run by onnxruntime"]),
        (b"not a network", ["can't be run by onnxruntime"]),
        (TensorProto.FLOAT, ["its inputs are: images tensor(float) ['batch', 1, 8, 8]", "expected one of uint8"]),
    ],
)
def test_what_is_no_such_file_is_one_line(tmp_path: Path, content: bytes | int | None, parts: list[str]) -> None:
    path = tmp_path / "network.onnx"
    if isinstance(content, int):
        write_onnx(path, content)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(PipelineError) as caught:
        measure_cost("onnx", path, 5, 1)
    line = str(caught.value)
    assert "\n" not in line
    assert all(part in line for part in [str(path), *parts]), line


def test_what_is_no_network_or_no_number_of_calls_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"meta\.json: no such file; run `dvc repro"):
        measure_cost("torch", tmp_path, 5, 1)
    with pytest.raises(PipelineError, match=r"--repeats: 0; expected at least 1$"):
        measure_cost("onnx", write_onnx(tmp_path / "small.onnx"), 0, 1)
