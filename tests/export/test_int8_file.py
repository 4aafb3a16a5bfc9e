"""The int8 file: what can't be in int8, or loses by it, stays in float32, and no more than that."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from project import small_params

from pipeline.core.config import validate
from pipeline.data.splits import SplitInMemory
from pipeline.export.int8_file import write_int8
from pipeline.export.libraries import ExportError
from pipeline.export.onnx_file import run_onnx
from pipeline.export.quantization import Form, quantiser
from pipeline.export.settings import Export
from pipeline.export.trials import Samples
from pipeline.results.export import Int8Layers

PIXELS, HIDDEN, CLASSES = 12, 8, 3
RNG = np.random.default_rng(0)
INPUTS = torch.from_numpy(RNG.integers(0, 256, (400, 1, 3, 4)).astype(np.uint8))


def write_model(path: Path, nodes: Sequence[onnx.NodeProto], weights: dict[str, Any]) -> None:
    """Writes a network that starts with its pixels as floats in `0`, one row an image."""
    start = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["0"], axis=1),
    ]
    graph = helper.make_graph(
        [*start, *nodes],
        "network",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 1, 3, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def two_layers(path: Path, *, large_at: str | None) -> None:
    """Writes a network of two layers; a hidden value is 3,000 times as large as the others, and 8
    bits leave nothing of those. It is made small again behind the first layer or in the second one.
    """
    first, last = RNG.normal(size=(PIXELS, HIDDEN)) / 500, RNG.normal(size=(HIDDEN, CLASSES))
    first -= first.mean(axis=0)  # or one class would be predicted for all
    again = np.ones(HIDDEN)
    if large_at:
        first[:, 0] *= 3000
        again[0], last[0] = (1 / 3000, last[0]) if large_at == "output" else (1, last[0] / 3000)
    nodes = [
        helper.make_node("MatMul", ["0", "first"], ["1"]),
        helper.make_node("Mul", ["1", "again"], ["2"]),
        helper.make_node("MatMul", ["2", "last"], ["logits"]),
    ]
    write_model(path, nodes, {"first": first, "again": again, "last": last})


def split(path: Path, rows: slice) -> SplitInMemory:
    """Returns images whose hard labels are what a file predicts."""
    inputs = INPUTS[rows]
    return SplitInMemory(inputs, run_onnx(path, [inputs]).argmax(dim=1), np.arange(len(inputs), dtype=np.uint64))


def write(folder: Path, **changes: Any) -> Int8Layers:
    source = folder / "model.onnx"
    samples = Samples(split(source, slice(200)), split(source, slice(50)), split(source, slice(200, 400)))
    settings = validate(Export, small_params()["export"] | changes, "export")
    modules = ["", "", "first", "", "last"]
    return write_int8(folder / "int8.onnx", source, samples, modules, settings)


@dataclass(frozen=True)
class Case:
    """A large value somewhere in a network, and what then stays in float32."""

    large_at: str | None
    weights_alone: bool
    float32_layers: list[str]
    whole_loses: bool = True


CASES = {
    "nothing loses": Case(None, weights_alone=False, float32_layers=[], whole_loses=False),
    "an output loses": Case("output", weights_alone=True, float32_layers=[]),
    "a layer loses": Case("input", weights_alone=True, float32_layers=["last"]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_loses_stays_in_float32_and_no_more(tmp_path: Path, case: Case) -> None:
    two_layers(tmp_path / "model.onnx", large_at=case.large_at)
    facts = write(tmp_path, max_int8_drop_points=5.0)
    assert facts.float32_layers == case.float32_layers
    assert facts.weights_alone == case.weights_alone
    assert facts.num_layers == 2
    assert facts.float32_bytes == 4 * HIDDEN * CLASSES * len(case.float32_layers)
    assert facts.whole_drop_points is not None
    assert (facts.whole_drop_points > 5) == case.whole_loses
    assert facts.drop_points <= 5
    stored = [
        tensor.data_type for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer if len(tensor.dims) == 2
    ]
    assert stored.count(TensorProto.INT8) == 2 - len(case.float32_layers)
    checked = split(tmp_path / "model.onnx", slice(200, 400))
    right = run_onnx(tmp_path / "int8.onnx", [checked.inputs]).argmax(dim=1) == checked.hard_labels
    assert 100 * (1 - right.double().mean().item()) == pytest.approx(facts.drop_points)


def test_a_network_that_loses_in_every_form_has_no_int8_file(tmp_path: Path) -> None:
    weights = RNG.normal(size=(PIXELS, CLASSES))
    spread = np.concatenate([[3000.0], np.ones(PIXELS - 1)])
    nodes = [
        helper.make_node("Mul", ["0", "spread"], ["1"]),
        helper.make_node("MatMul", ["1", "weights"], ["logits"]),
    ]
    write_model(tmp_path / "model.onnx", nodes, {"spread": spread, "weights": weights / spread[:, None]})
    with pytest.raises(ExportError, match=r"^int8: loses more than 1 points .* even where a single layer is in int8$"):
        write(tmp_path, max_int8_drop_points=1.0)


def test_a_value_that_layers_share_is_not_taken_for_another_one(tmp_path: Path) -> None:
    # Three layers share the bias 1, and 17 is a weight. A copy of the bias would be called 18, as a
    # value is.
    nodes = [
        helper.make_node("LayerNormalization", ["0", "17", "1"], ["18"]),
        helper.make_node("LayerNormalization", ["18", "17", "1"], ["19"]),
        helper.make_node("Reshape", ["18", "shape"], ["20"]),
        helper.make_node("LayerNormalization", ["19", "17", "1"], ["21"]),
        helper.make_node("Add", ["20", "21"], ["22"]),
        helper.make_node("MatMul", ["22", "last"], ["logits"]),
    ]
    weights = {"1": np.zeros(PIXELS), "17": np.ones(PIXELS), "last": RNG.normal(size=(PIXELS, CLASSES))}
    write_model(tmp_path / "model.onnx", nodes, weights)
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, PIXELS]), "shape"))
    onnx.save(model, tmp_path / "model.onnx")
    with quantiser(tmp_path / "model.onnx", INPUTS) as network:
        network.write(tmp_path / "int8.onnx", Form(whole=True, bits=7))
    exact, found = (run_onnx(tmp_path / file, [INPUTS]) for file in ("model.onnx", "int8.onnx"))
    torch.testing.assert_close(found, exact, rtol=0.1, atol=0.2)
