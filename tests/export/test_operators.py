"""Operators of ONNX files in torch: each computes what onnxruntime does."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnxruntime import InferenceSession

from pipeline.export.operators import OPERATORS

RNG = np.random.default_rng(0)
PICTURES = RNG.normal(size=(2, 4, 6, 5)).astype(np.float32)
ROWS = RNG.normal(size=(3, 4)).astype(np.float32)
TWICE, CORNERS = np.array([1, 1, 2, 2], np.float32), "align_corners"
POSITIVE = np.abs(ROWS) + 0.5


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Case:
    """A node: its inputs (None: left out) and its attributes; `outputs` are what it gives."""

    kind: str
    inputs: tuple[Any, ...] = (PICTURES,)
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1


def case(kind: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Case:
    return Case(kind, inputs or (PICTURES,), attributes, outputs)


CASES = [
    *(case(kind, ROWS, floats(3, 4)) for kind in ("Add", "Mul", "Sub")),
    *(case(kind, ROWS) for kind in ("Erf", "Exp", "HardSwish", "Identity", "Neg", "Relu", "Sigmoid", "Softplus")),
    *(case(kind, POSITIVE) for kind in ("Reciprocal", "Sqrt", "Tanh")),
    case("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], count_include_pad=1),
    case("AveragePool", kernel_shape=[2, 3]),
    case("BatchNormalization", PICTURES, floats(4), floats(4), floats(4), np.abs(floats(4)), epsilon=0.01),
    case("Cast", ints(1, 2), to=TensorProto.FLOAT),
    case("Clip", ROWS, np.float32(-0.5), np.float32(0.5)),
    case("Clip", ROWS, None, np.float32(0.5)),
    case("Concat", ROWS, ROWS, axis=-1),
    case("Constant", value=helper.make_tensor("", TensorProto.FLOAT, [2], [1.0, 2.0])),
    case("Conv", PICTURES, floats(6, 4, 3, 3), floats(6), pads=[1, 1, 1, 1], strides=[2, 2]),
    case("Conv", PICTURES, floats(4, 1, 3, 3), group=4, pads=[0, 0, 1, 1], strides=[2, 2]),
    case("Conv", PICTURES, floats(4, 2, 2, 2), group=2, dilations=[2, 1]),
    case("ConvTranspose", PICTURES, floats(4, 3, 2, 2), floats(3), strides=[2, 2]),
    case("ConvTranspose", PICTURES, floats(4, 2, 3, 3), group=2, strides=[2, 2], pads=[1, 0, 0, 1]),
    case("ConvTranspose", PICTURES, floats(4, 3, 3, 2), strides=[3, 2], pads=[1, 1, 1, 1], output_padding=[2, 1]),
    case("Div", ROWS, POSITIVE),
    case("Div", ints(7, 9), ints(2, 3)),
    case("Expand", ROWS[:1], ints(3, 1)),
    case("Flatten"),
    case("Flatten", axis=2),
    case("Gather", ROWS, ints(2, 0), axis=0),
    case("Gather", ROWS, np.array(-1), axis=1),
    case("Gelu", ROWS),
    case("Gelu", ROWS, approximate="tanh"),
    case("Gemm", ROWS, floats(5, 4), floats(5), transB=1, alpha=0.5, beta=2.0),
    case("Gemm", ROWS, floats(3, 2), transA=1),
    case("GlobalAveragePool"),
    case("HardSigmoid", ROWS, alpha=1 / 6, beta=0.5),
    case("InstanceNormalization", PICTURES, floats(4), floats(4), epsilon=0.01),
    case("LayerNormalization", ROWS, floats(4), floats(4), epsilon=0.01),
    case("LeakyRelu", ROWS, alpha=0.2),
    case("Log", np.abs(ROWS) + np.float32(0.1)),
    case("MatMul", floats(2, 3, 4), floats(4, 5)),
    case("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
    case("MaxPool", kernel_shape=[2, 2], ceil_mode=1, strides=[2, 2]),
    case("PRelu", ROWS, floats(4)),
    case("Pad", PICTURES, ints(0, 0, 1, 2, 0, 0, 0, 1), np.float32(3)),
    case("Pad", PICTURES, ints(0, 0, 1, 2, 0, 0, 0, 1), mode="reflect"),
    case("Pow", POSITIVE, np.float32(3)),
    case("ReduceMean", PICTURES, ints(2, 3), keepdims=0),
    case("ReduceMean", PICTURES),
    case("ReduceSum", PICTURES, ints(-1)),
    case("Reshape", PICTURES, ints(0, -1, 10)),
    case("Resize", PICTURES, None, None, ints(2, 4, 9, 11), mode="linear"),
    case("Resize", PICTURES, None, None, ints(2, 4, 3, 2), mode="linear", antialias=1, exclude_outside=1),
    case("Resize", PICTURES, None, None, ints(2, 4, 9, 9), mode="linear", coordinate_transformation_mode=CORNERS),
    case("Resize", PICTURES, None, TWICE, nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
    case("Shape", PICTURES, start=1, end=3),
    case("Slice", PICTURES, ints(1, -3), ints(9, -1), ints(1, -2)),
    case("Slice", ROWS, ints(0), ints(4), ints(1), ints(2)),
    case("Softmax", ROWS, axis=1),
    case("Split", PICTURES, ints(1, 3), axis=1, outputs=2),
    case("Split", PICTURES, axis=2, num_outputs=3, outputs=3),
    case("Squeeze", floats(2, 1, 3, 1), ints(1)),
    case("Squeeze", floats(2, 1, 3, 1)),
    case("Transpose", PICTURES, perm=[0, 2, 3, 1]),
    case("Unsqueeze", ROWS, ints(0, -1)),
    case("Where", ROWS > 0, ROWS, POSITIVE),
]


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.kind)
def test_an_operator_computes_what_onnxruntime_does(one: Case) -> None:
    given = {f"i{place}": np.array(value) for place, value in enumerate(one.inputs) if value is not None}
    if one.kind == "Constant":
        given = {}
    names = [f"i{place}" if f"i{place}" in given else "" for place in range(len(one.inputs) if given else 0)]
    outputs = [f"o{place}" for place in range(one.outputs)]
    node = helper.make_node(one.kind, names, outputs, **one.attributes)
    expected = InferenceSession(model_of(node, given, outputs).SerializeToString()).run(None, given)
    inputs = [torch.from_numpy(given[name]) if name else None for name in names]
    found = OPERATORS[one.kind](*inputs, **attributes_of(node))
    for ours, theirs in zip(found if isinstance(found, tuple) else [found], expected, strict=True):
        torch.testing.assert_close(ours, torch.from_numpy(np.array(theirs)), rtol=1e-5, atol=1e-5)


def model_of(node: Any, given: dict[str, np.ndarray], outputs: list[str]) -> Any:
    """Returns a model of this node alone."""
    begin = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in given.items()
    ]
    of_whole_numbers = node.op_type == "Shape" or (node.op_type == "Div" and given["i0"].dtype == np.int64)
    kind = TensorProto.INT64 if of_whole_numbers else TensorProto.FLOAT
    end = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    graph = helper.make_graph([node], "one", begin, end)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def attributes_of(node: Any) -> dict[str, Any]:
    from pipeline.export.fake_int8 import plain

    return {each.name: plain(each) for each in node.attribute}


def test_every_operator_has_a_case() -> None:
    assert {one.kind for one in CASES} == OPERATORS.keys()
